# SPDX-License-Identifier: Apache-2.0
"""`manage.py cerebro`: the leader and the server for other sites."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from prism.core.exceptions import Refused
from replication.cerebro.process import Process


class Command(BaseCommand):
    help = "Run this site's Cerebro (leader loop and port 2020) until SIGTERM."

    def handle(self, *_args: Any, **_options: Any) -> None:
        try:
            Process().run()
        except (OSError, Refused) as error:
            raise CommandError(f"Cerebro cannot start: {error}") from error
