# SPDX-License-Identifier: Apache-2.0
"""`manage.py web`: the console and the API over HTTPS, with the site's own certificate."""

from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from prism.runtime.certificates import CERTIFICATE_FILE, KEY_FILE


class Command(BaseCommand):
    help = "Serve console and API of the site in PRISM_DATA."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.SITE_CONFIG is None or settings.LAYOUT is None:
            raise CommandError("PRISM_DATA does not name the data folder of a site; `make up` sets it.")
        uvicorn.run(
            "prism.asgi:application",
            host=settings.SITE_CONFIG.listen,
            port=settings.SITE_CONFIG.ports["web"],
            ssl_certfile=str(settings.LAYOUT.identity / CERTIFICATE_FILE),
            ssl_keyfile=str(settings.LAYOUT.identity / KEY_FILE),
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
