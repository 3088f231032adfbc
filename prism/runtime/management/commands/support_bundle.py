# SPDX-License-Identifier: Apache-2.0
"""`manage.py support_bundle`: logs, states and versions of this machine's sites in one file, without secrets."""

import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from prism.runtime.bundle import archive
from prism.runtime.children import ROOT
from prism.runtime.doctor import site_folders


class Command(BaseCommand):
    help = "Write logs, states and versions of the sites into one file for support. It holds no secrets and no data."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--root", type=Path, default=ROOT / "var", help="folder of the sites' data folders")
        parser.add_argument("--out", type=Path, default=None, help="file to write (default: prism-support-TIME.tar.gz)")

    def handle(self, *args: Any, **options: Any) -> None:
        root = options["root"].resolve()
        if not site_folders(root):
            raise CommandError(f"There is no site in {root}.")
        target = options["out"] or Path(time.strftime("prism-support-%Y%m%d-%H%M%S.tar.gz"))
        try:
            left_out = archive.write(target.absolute(), root)
        except OSError as problem:
            raise CommandError(f"{target} cannot be written: {problem.strerror}.") from problem
        self.stdout.write(f"{target} was written ({target.stat().st_size:,} bytes).")
        if left_out:
            self.stdout.write(f"Too big to fit: {', '.join(left_out)}.")
        self.stdout.write("It holds names of objects, addresses and log lines. Look through it before you send it.")
