# SPDX-License-Identifier: Apache-2.0
"""`manage.py pair_local`: pair all sites of this machine, through the same door an operator uses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from prism.core.actor import Actor
from prism.core.exceptions import Refused
from prism.layout import Layout, SiteConfig
from replication.exceptions import PeerUnreachable
from replication.models import RemoteSite
from replication.services import remote_sites

RETRY_SECONDS = 1.0
FOREIGN = ("DATABASE_URL", "REDIS_URL")
"""Variables that name this site's servers, not the other's."""


class Command(BaseCommand):
    help = "Pair this site (PRISM_DATA) with every other one found next to its data folder."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for a site that still starts")
        parser.add_argument("--code", action="store_true", help="only show a pairing code on standard output")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            if options["code"]:
                self.stdout.write(remote_sites.start_pairing(actor=Actor.cli("pair_local")).code)
                return
            for data, config in self._others():
                self._pair(data, config, time.monotonic() + options["timeout"])
        except Refused as error:
            raise CommandError(f"{error} {error.next_step}".strip()) from error

    def _others(self) -> list[tuple[Path, SiteConfig]]:
        if settings.PRISM_DATA is None:
            raise CommandError("Set PRISM_DATA to this site's data folder.")
        folders = sorted(settings.PRISM_DATA.parent.glob("site*/site.json"))
        found = [(path.parent, Layout(path.parent).load()) for path in folders if path.parent != settings.PRISM_DATA]
        return [(data, config) for data, config in found if config is not None]

    def _pair(self, data: Path, config: SiteConfig, deadline: float) -> None:
        if RemoteSite.objects.filter(site_uuid=config.uuid).exclude(certificate_pem="").exists():
            self.stdout.write(f"{config.name}: paired already")
            return
        code = _code_of(data)
        while True:
            try:
                site = remote_sites.pair(
                    host=config.listen, control_port=config.ports["control"], code=code, actor=Actor.cli("pair_local")
                )
            except PeerUnreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)
            else:
                self.stdout.write(f"{site.name}: paired, fingerprint {site.pairing_fingerprint}")
                return


def _code_of(data: Path) -> str:
    """A code of the other site, from a process of its own: settings belong to one site."""
    keep = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "pair_local", "--code"]
    result = subprocess.run(
        command, env={**keep, "PRISM_DATA": str(data)}, capture_output=True, text=True, timeout=60, check=False
    )
    if result.returncode:
        raise CommandError(f"{data.name} gives no pairing code: {result.stderr.strip()[-500:]}")
    return result.stdout.strip().splitlines()[-1]
