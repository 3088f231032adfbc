# SPDX-License-Identifier: Apache-2.0
"""`manage.py first_admin`: make the site's row and the first administrator; print the generated password, once."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from prism.core.services import sites, users
from prism.runtime.operator import command_line_actor


class Command(BaseCommand):
    help = "Make the first administrator. Prints the password; nothing when the user exists already."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        sites.this_site()
        _, password = users.ensure_admin(username=options["username"], actor=command_line_actor())
        if password:
            self.stdout.write(password)
