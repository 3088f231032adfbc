# SPDX-License-Identifier: Apache-2.0
"""User-Agent headers in words, for lists of sessions. Whoever signs in writes that header: nothing rests on it."""

from __future__ import annotations

_BROWSERS = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
"""The first mark that is found wins: most browsers also name those they descend from."""

_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)
PRODUCT_CHARACTERS_MAX = 40


def in_words(agent: str) -> str:
    """`Chrome on Linux`; of programs the product they name, such as `curl/8.5`; `unknown` without a header."""
    browser = next((name for mark, name in _BROWSERS if mark in agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in agent), "")
    if browser:
        return f"{browser} on {system}" if system else browser
    product, *_rest = agent.split(maxsplit=1) or ["unknown"]
    return product[:PRODUCT_CHARACTERS_MAX]
