#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Django's command line, with the commands of the embedded runtime (`up`, `down`, `status`, `reset` ...)."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "prism.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
