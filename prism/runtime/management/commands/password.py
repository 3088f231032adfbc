# SPDX-License-Identifier: Apache-2.0
"""`manage.py password`: give a user a new generated password; all sessions of that user end."""

import secrets
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from prism.core.services import users
from prism.runtime.operator import command_line_actor

_PASSWORD_BYTES = 12


class Command(BaseCommand):
    help = "Give a user a new password and print it. The site must be running."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", nargs="?", default="admin")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['username']!r}.")
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        users.set_password(user, password=password, actor=command_line_actor())
        self.stdout.write(f"New password of {user.username}: {password}")
