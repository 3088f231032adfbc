# SPDX-License-Identifier: Apache-2.0
"""Takes secrets out of a text: those of this site by their value, all others by what stands around them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

HIDDEN = "[hidden]"
_SECRET_CHARS_MIN = 8
"""Shorter values would be found in ordinary words."""
_URL_VARIABLES = ("DATABASE_URL", "REDIS_URL")
_SECRET_VARIABLES = ("PRISM_SECRET_KEY", "PRISM_TOKEN", "PGPASSWORD")

_NAMES = (
    r"(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key|credential|authorization|cookie|session"
    r"|csrf|otp|recovery[_ -]?codes?|pairing[_ -]?code|code[_-]?hash)[\w-]{0,64}"
)
#: A quoted value, a list, a bare word; of one whose end is missing the rest of the line.
_VALUES = (
    r"\\\"(?:[^\"\\]|\\[^\"]){0,1024}\\\"",
    r"\"(?:[^\"\\]|\\.){0,1024}\"",
    r"'(?:[^'\\]|\\.){0,1024}'",
    r"\[[^\]]{0,1024}\]",
    r"\([^)]{0,1024}\)",
    r"[\\\"'\[(][^\r\n]*",
    r"[^\s\"',;&}]+",
)
_PRIVATE = r"[A-Z0-9 ]{0,32}PRIVATE KEY-----"
_KEY_ENDS = re.compile(rf"-----END {_PRIVATE}")
_PATTERNS = (
    # Whole keys, and those whose end was cut off.
    (re.compile(rf"-----BEGIN {_PRIVATE}.*?(?:-----END {_PRIVATE}|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"\b(?:set-)?cookie\b[\"']?\s*[:=][^\r\n]*", re.IGNORECASE), f"cookie: {HIDDEN}"),
    (re.compile(r"\b(bearer|basic|digest)\s+[^\s\"',;]+", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\bprism_[A-Za-z0-9_-]{16,}"), HIDDEN),
    (re.compile(r"otpauth(?:-migration)?://\S+", re.IGNORECASE), HIDDEN),
    (re.compile(r"://[^\s/@\"']{0,256}:[^\s\"'@]{0,1024}@"), f"://{HIDDEN}@"),
    # Pairing codes and keys of second factors, wherever they stand.
    (re.compile(r"\b[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}\b"), HIDDEN),
    (re.compile(r"\b(?:[A-Z2-7]{32}|[A-Z2-7]{16})\b"), HIDDEN),
    # name = value, "name": "value", name: [values], ?name=value
    (
        re.compile(rf"({_NAMES})(\\?[\"']?\s{{0,8}}(?:=>|[:=])\s{{0,8}})(?:{'|'.join(_VALUES)})", re.IGNORECASE),
        rf"\1\2{HIDDEN}",
    ),
    # "New password of admin: ...", "user admin   password ..."
    (re.compile(r"\b(password(?: of \S+)?:?[ \t]+)\S{8,}", re.IGNORECASE), rf"\1{HIDDEN}"),
)


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without `secrets` and without what looks like one."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _without_rest_of_key(text)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def _without_rest_of_key(text: str) -> str:
    """A text that begins inside a private key loses all up to that key's end."""
    end = _KEY_ENDS.search(text)
    return HIDDEN + text[end.end() :] if end and "-----BEGIN" not in text[: end.start()] else text


def secrets_of(identity: Path) -> list[str]:
    """Values that must not leave: of the key files below `identity`, also line by line, and of the environment."""
    found: set[str] = set()
    for path in [*identity.rglob("*.key"), *identity.rglob("*.pem")]:
        content = path.read_text(encoding="utf-8", errors="replace")
        found |= {content.strip(), *(line.strip() for line in content.splitlines() if not line.startswith("-----"))}
    found |= {os.environ.get(name, "") for name in _SECRET_VARIABLES}
    for name in _URL_VARIABLES:
        password = urlsplit(os.environ.get(name, "")).password or ""
        found |= {password, unquote(password)}
    # The longest first: a part of one must not break up the whole.
    return sorted((value for value in found if len(value) >= _SECRET_CHARS_MIN), key=len, reverse=True)
