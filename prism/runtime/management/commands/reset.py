# SPDX-License-Identifier: Apache-2.0
"""`manage.py reset`: delete all sites of this machine with all their data, after asking."""

import shutil
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from prism.layout import Layout
from prism.runtime.children import ROOT
from prism.runtime.lock import AlreadyRunning, SupervisorLock
from prism.runtime.supervisor import recorded_processes


class Command(BaseCommand):
    help = "Delete all sites of this machine with all their data."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--root", type=Path, default=ROOT / "var", help="folder of the sites' data folders")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        root = options["root"].resolve()
        folders = sorted(folder for folder in root.glob("site*") if (folder / "site.json").exists())
        if not folders:
            self.stdout.write("There is no site to delete.")
            return
        try:
            with SupervisorLock(root):
                self._delete(folders, ask=not options["yes"])
        except AlreadyRunning as error:
            raise CommandError("The sites are running: `make down` first. Nothing was deleted.") from error

    def _delete(self, folders: list[Path], *, ask: bool) -> None:
        if any(recorded_processes(Layout(folder)) for folder in folders):
            raise CommandError("Processes of a site are still running: `make down` first. Nothing was deleted.")
        for folder in folders:
            self.stdout.write(f"  {folder}")
        if ask and not _agreed():
            raise CommandError("Nothing was deleted.")
        for folder in folders:
            config = Layout(folder).load()
            if config and Path(config.socket_dir) != Layout(folder).run:
                shutil.rmtree(config.socket_dir, ignore_errors=True)
            shutil.rmtree(folder)
        self.stdout.write("Deleted. `make up` starts anew.")


def _agreed() -> bool:
    try:
        answer = input("Delete these sites with all disks, snapshots and settings? Type `delete` to go on: ")
    except EOFError:
        return False
    return answer.strip() == "delete"
