# SPDX-License-Identifier: Apache-2.0
"""`manage.py doctor`: what is wrong and how to mend it. Works while the sites are up and while they are down."""

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from prism.layout import Layout
from prism.runtime.children import ROOT
from prism.runtime.doctor import Finding, Level, examine, site_folders
from prism.runtime.lock import holder

_SIGNS = {Level.OK: "ok", Level.WARNING: "WARNING", Level.ERROR: "ERROR"}


class Command(BaseCommand):
    help = "Say what is wrong and how to mend it. Exit status 0: all is well, 1: warnings, 2: errors."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--root", type=Path, default=ROOT / "var", help="folder of the sites' data folders")
        parser.add_argument("--json", action="store_true", help="for programs: one object per site")
        parser.add_argument("--all", action="store_true", help="also show what is well")

    def handle(self, *args: Any, **options: Any) -> None:
        root = options["root"].resolve()
        running = holder(root) is not None
        found = {folder.name: examine(Layout(folder), running=running) for folder in site_folders(root)}
        if options["json"]:
            self.stdout.write(json.dumps({name: [_row(one) for one in rows] for name, rows in found.items()}, indent=2))
        else:
            self._show(root, found, everything=options["all"])
        sys.exit(int(max((one.level for rows in found.values() for one in rows), default=Level.WARNING)))

    def _show(self, root: Path, found: dict[str, list[Finding]], *, everything: bool) -> None:
        if not found:
            self.stdout.write(f"There is no site in {root}: `make up` makes them.")
        for name, rows in found.items():
            bad = [one for one in rows if one.level]
            self.stdout.write(f"{name}: {len(rows)} things looked at, {len(bad)} need somebody")
            for one in sorted(rows if everything else bad, key=lambda one: -one.level):
                self.stdout.write(f"  {_SIGNS[one.level]:<8} {one.check}: {one.message}")
                if one.mend:
                    self.stdout.write(f"  {'':<8} -> {one.mend}")


def _row(one: Finding) -> dict[str, str]:
    return {"check": one.check, "level": one.level.name.lower(), "message": one.message, "mend": one.mend}
