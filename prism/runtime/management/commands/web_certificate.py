# SPDX-License-Identifier: Apache-2.0
"""`manage.py web_certificate`: serve console and API with a certificate of one's own authority."""

import signal
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from prism.layout import Layout
from prism.runtime.certificates import CERTIFICATE_FILE, CertificateError, install_web_certificate
from prism.runtime.supervisor import recorded_processes


class Command(BaseCommand):
    help = "Install a certificate and its key for the console; a running web process takes it up at once."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("site", type=Path, help="the site's data folder, such as var/site1")
        parser.add_argument("--certificate", type=Path, required=True, help="PEM: the site's, then those above it")
        parser.add_argument("--key", type=Path, required=True, help="PEM, without a password")

    def handle(self, *args: Any, **options: Any) -> None:
        layout = Layout(options["site"].resolve())
        if not layout.site_json.exists():
            raise CommandError(f"{layout.data} is not the folder of a site.")
        try:
            chain, key = options["certificate"].read_bytes(), options["key"].read_bytes()
            found = install_web_certificate(layout.identity, chain, key)
        except CertificateError as problem:
            raise CommandError(f"{problem} Nothing was changed.") from problem
        except OSError as problem:
            raise CommandError(f"{problem.filename} cannot be read or written: {problem.strerror}.") from problem
        web = recorded_processes(layout).get("web")
        if web:
            web.send(signal.SIGTERM)  # the supervisor starts it again at once
        until = found.not_valid_after_utc.date().isoformat()
        self.stdout.write(f"Installed as {layout.identity / CERTIFICATE_FILE}, valid until {until}.")
