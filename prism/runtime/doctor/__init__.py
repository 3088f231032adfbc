# SPDX-License-Identifier: Apache-2.0
"""`manage.py doctor`: what is wrong on this machine and with its sites, and how to mend it. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from prism.layout import Layout, LayoutError, SiteConfig


class Level(IntEnum):
    """How bad; the worst of all is the exit status."""

    OK = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True)
class Finding:
    """What one check found. `mend`: what to do, "" when there is nothing to do."""

    check: str
    level: Level
    message: str
    mend: str = ""


@dataclass(frozen=True)
class Patient:
    """One site. `running`: a supervisor looks after it now."""

    layout: Layout
    config: SiteConfig
    running: bool


Check = Callable[[Patient], Iterator[Finding]]


def fine(check: str, message: str) -> Finding:
    return Finding(check, Level.OK, message)


def warning(check: str, message: str, mend: str) -> Finding:
    return Finding(check, Level.WARNING, message, mend)


def error(check: str, message: str, mend: str) -> Finding:
    return Finding(check, Level.ERROR, message, mend)


def examine(layout: Layout, *, running: bool) -> list[Finding]:
    """All checks of one site. One that itself fails is an error of its own, never the end of the others."""
    from prism.runtime.doctor import files, parts

    try:
        config = layout.load()
    except LayoutError as problem:
        return [error("site.json", str(problem), "Bring it back from a back-up of the site's folder.")]
    if config is None:
        return [error("site.json", f"{layout.site_json} is missing.", "`make up` makes a site; else bring it back.")]
    patient = Patient(layout, config, running)
    found: list[Finding] = []
    for check in (*files.CHECKS, *parts.CHECKS):
        try:
            found += list(check(patient))
        except Exception as problem:
            name = check.__name__.replace("_", " ")
            found.append(error(name, f"could not be looked at: {type(problem).__name__}: {problem}", "Read the logs."))
    return found


def site_folders(root: Path) -> list[Path]:
    """Folders of sites below `root`, by name."""
    return sorted(folder for folder in root.glob("site*") if folder.is_dir())
