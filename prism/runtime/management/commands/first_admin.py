# SPDX-License-Identifier: Apache-2.0
"""`manage.py first_admin`: make the first administrator and print the generated password, once."""

import secrets
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser

_PASSWORD_BYTES = 12


class Command(BaseCommand):
    help = "Make the first administrator. Prints the password; nothing when there is an administrator already."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        users = get_user_model()._default_manager
        if users.filter(is_superuser=True).exists():
            return
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        users.create_superuser(username=options["username"], password=password)
        self.stdout.write(password)
