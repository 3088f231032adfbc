# SPDX-License-Identifier: Apache-2.0
"""`manage.py down`: stop what `up` started, from another terminal."""

import signal
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from prism.layout import Layout
from prism.runtime.children import ROOT
from prism.runtime.lock import holder
from prism.runtime.procinfo import wait_gone
from prism.runtime.screen import Screen
from prism.runtime.supervisor import end_orphans

_PATIENCE_SECONDS = 180.0


class Command(BaseCommand):
    help = "Stop the sites of this machine."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--root", type=Path, default=ROOT / "var", help="folder of the sites' data folders")

    def handle(self, *args: Any, **options: Any) -> None:
        root = options["root"].resolve()
        supervisor = holder(root)
        if supervisor is None:
            for folder in sorted(root.glob("site*")):
                end_orphans(Layout(folder), Screen())
            self.stdout.write("Nothing is running.")
            return
        self.stdout.write(f"Stopping (pid {supervisor.pid}) ...")
        try:
            supervisor.send(signal.SIGTERM)
        except PermissionError as error:
            raise CommandError("It was started by another user: stop it as that user, or as root.") from error
        if wait_gone([supervisor], timeout_seconds=_PATIENCE_SECONDS):
            raise CommandError(f"Still stopping after {_PATIENCE_SECONDS:.0f} s; `make status` shows what is left.")
        self.stdout.write("Stopped. The data stays; `make up` continues.")
