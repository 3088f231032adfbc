# SPDX-License-Identifier: Apache-2.0
"""`manage.py status`: the processes of all sites, seen from the heartbeat and asked directly."""

import sys
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from prism.layout import Layout, LayoutError
from prism.runtime.children import ROOT, children
from prism.runtime.lock import holder
from prism.runtime.supervisor import read_heartbeat, recorded_processes

_ROW = "  {:<16} {:<11} {:>8} {:>9} {:>9}  {:<10} {}"


class Command(BaseCommand):
    help = "Show the processes of the sites of this machine. Exit status 1 when something is not healthy."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--root", type=Path, default=ROOT / "var", help="folder of the sites' data folders")

    def handle(self, *args: Any, **options: Any) -> None:
        root = options["root"].resolve()
        supervisor = holder(root)
        self.stdout.write(f"Supervisor: {f'running, pid {supervisor.pid}' if supervisor else 'not running'}")
        folders = sorted(folder for folder in root.glob("site*") if (folder / "site.json").exists())
        if not folders:
            self.stdout.write("No site yet: `make up` makes them.")
        healthy = [self._show(Layout(folder)) for folder in folders]
        if not (supervisor and healthy and all(healthy)):
            sys.exit(1)

    def _show(self, layout: Layout) -> bool:
        """Print one site's table; returns whether all of it is healthy."""
        try:
            config = layout.load()
        except LayoutError as error:
            self.stdout.write(f"\n{layout.data.name}: {error}")
            return False
        if config is None:
            return False
        self.stdout.write(f"\n{config.name} ({config.listen})")
        self.stdout.write(_ROW.format("process", "state", "pid", "restarts", "up", "answers", "address"))
        beat, alive = read_heartbeat(layout), recorded_processes(layout)
        healthy = True
        for spec in children(layout, config):
            row = beat.get(spec.name, {})
            answers = spec.name in alive and spec.ready()
            state = str(row.get("state", "stopped")) if spec.name in alive else _dead_state(row)
            since = float(str(row.get("since") or 0))
            up = _duration(time.time() - since) if spec.name in alive else "-"
            pid = alive[spec.name].pid if spec.name in alive else "-"
            self.stdout.write(
                _ROW.format(spec.name, state, pid, row.get("restarts", 0), up, "yes" if answers else "no", spec.address)
            )
            healthy = healthy and answers
        return healthy


def _dead_state(row: dict[str, object]) -> str:
    return "restarting" if row.get("state") == "restarting" else "stopped"


def _duration(seconds: float) -> str:
    """Whole units, the largest that fits: 42s, 7m, 3h, 2d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(max(seconds, 0))}s"
