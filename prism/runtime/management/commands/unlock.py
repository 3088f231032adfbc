# SPDX-License-Identifier: Apache-2.0
"""`manage.py unlock`: let somebody who failed to sign in too often try again at once."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from prism.core.exceptions import InvalidInput
from prism.core.services import signins
from prism.runtime.operator import command_line_actor


class Command(BaseCommand):
    help = "Forget failed sign-ins of a name, of an address, or of the name at the address. The site must be running."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", nargs="?", default="")
        parser.add_argument("--address", default="", help="only from this address; without a name: of all names")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = signins.unlock(username=options["username"], address=options["address"], actor=command_line_actor())
        except InvalidInput as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"Unlocked: {found} records of failed sign-ins are forgotten.")
