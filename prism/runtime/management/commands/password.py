# SPDX-License-Identifier: Apache-2.0
"""`manage.py password`: give a user a new generated password; all sessions of that user end."""

import secrets
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

_PASSWORD_BYTES = 12


class Command(BaseCommand):
    help = "Give a user a new password and print it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", nargs="?", default="admin")

    def handle(self, *args: Any, **options: Any) -> None:
        user = get_user_model()._default_manager.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['username']!r}.")
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        user.set_password(password)
        user.save(update_fields=["password"])
        self.stdout.write(f"New password of {options['username']}: {password}")
