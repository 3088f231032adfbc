# SPDX-License-Identifier: Apache-2.0
"""`manage.py second_factor_off`: for an administrator who lost phone and recovery codes."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from prism.core.services import second_factor
from prism.runtime.operator import command_line_actor


class Command(BaseCommand):
    help = "Turn two-step sign-in of a user off. The site must be running."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['username']!r}.")
        if not second_factor.is_on(user):
            raise CommandError(f"Two-step sign-in of {user.username} is off already.")
        second_factor.disable(user, actor=command_line_actor())
        self.stdout.write(f"Two-step sign-in of {user.username} is off; the password alone signs in.")
