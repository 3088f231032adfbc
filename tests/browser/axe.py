# SPDX-License-Identifier: Apache-2.0
"""axe-core over a page as it stands: what a screen reader, a keyboard or weak eyes would stumble over."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from playwright.sync_api import Page

#: Each theme with the rules that are asked there: all once, and what a theme can change in the other.
THEMES = {
    "light": {"resultTypes": ["violations"]},
    "dark": {"resultTypes": ["violations"], "runOnly": ["color-contrast", "link-in-text-block"]},
}


@cache
def _source() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def violations(page: Page) -> list[str]:
    """Each violation in one line with where it is, in both themes. The page's own policy does not bind the debugger."""
    if not page.evaluate("typeof window.axe === 'object'"):
        page.evaluate(_source())
    found: dict[str, None] = {}
    before = page.evaluate("document.documentElement.dataset.theme || ''")
    for theme, options in THEMES.items():
        page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
        result: dict[str, Any] = page.evaluate("(options) => axe.run(document, options)", options)
        for violation in result["violations"]:
            for node in violation["nodes"]:
                where = " ".join(str(part) for part in node["target"])
                said = " ".join(node["failureSummary"].split())[:300]
                found[f"{theme}: {violation['id']} ({violation['impact']}) at {where}: {said}"] = None
    page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", before)
    return list(found)
