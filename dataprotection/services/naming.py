# SPDX-License-Identifier: Apache-2.0
"""What things may be called. One rule, one wording, for every door and every site."""

from __future__ import annotations

import re
from typing import Any

from django.db.models import Model

from dataprotection.models import NAME_MAX
from prism.core.exceptions import InvalidInput

_STRICT = re.compile(r"[A-Za-z0-9._-]+")
_RELAXED = re.compile(r"[A-Za-z0-9._-](?:[A-Za-z0-9._ -]*[A-Za-z0-9._-])?")
_PATH = re.compile(r"(?:/[A-Za-z0-9._ +@=-]+)+")
_PREFIX = re.compile(r"[A-Za-z0-9._ -]*")
PATH_MAX = 1024


def domain_name(name: str) -> str:
    """The name of a domain or container: travels to other sites, so no blanks. Returns it; raises InvalidInput."""
    return _checked(name, _STRICT, "name", "letters (a-z, A-Z), digits, dot, underscore and hyphen")


def entity_name(name: str, *, field: str = "name") -> str:
    """The name of a VM, volume group or network: blanks inside are allowed."""
    return _checked(name, _RELAXED, field, "letters (a-z, A-Z), digits, blank, dot, underscore and hyphen")


def file_path(path: str, *, field: str = "path") -> str:
    """The path of a file: absolute, no "." or ".." in it."""
    if not path or len(path) > PATH_MAX:
        raise InvalidInput(field, f"A file path has 1 to {PATH_MAX} characters.", "Choose a shorter path.")
    if not _PATH.fullmatch(path) or any(part in {".", ".."} for part in path.split("/")):
        raise InvalidInput(
            field,
            f"The path {path!r} is not one of ours.",
            "Use an absolute path such as /images/debian.iso with letters, digits, blank and . _ - + @ =.",
        )
    return path


def prefix(text: str, *, field: str) -> str:
    """What a clone's names begin with; "" where a name must not collide is the caller's to refuse."""
    if len(text) > NAME_MAX or not _PREFIX.fullmatch(text) or text != text.lstrip():
        raise InvalidInput(
            field,
            f"The prefix {text!r} cannot begin a name.",
            "Use letters (a-z, A-Z), digits, blank, dot, underscore and hyphen.",
        )
    return text


def must_be_new(model: type[Model], field: str, value: str, what: str) -> None:
    """Refuse a name that is taken on this site."""
    manager: Any = model._default_manager
    if manager.filter(**{field: value}).exists():
        raise InvalidInput(
            field, f"There is already a {what} named {value} on this site.", "Choose another name.", code="name_taken"
        )


def _checked(name: str, allowed: re.Pattern[str], field: str, words: str) -> str:
    if not name:
        raise InvalidInput(field, "The name is empty.", "Enter a name.")
    if len(name) > NAME_MAX:
        raise InvalidInput(
            field, f"The name has {len(name)} characters; {NAME_MAX} is the most.", "Choose a shorter name."
        )
    if not allowed.fullmatch(name):
        foreign = sorted({char for char in name if not allowed.fullmatch(char)})
        found = f" (found {' '.join(repr(char) for char in foreign)})" if foreign else ""
        raise InvalidInput(field, f"The name holds foreign characters{found}.", f"Use {words}.")
    return name
