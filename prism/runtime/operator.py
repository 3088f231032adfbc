# SPDX-License-Identifier: Apache-2.0
"""Who gives an order on the command line: the user of the machine."""

import os
import pwd

from prism.core.actor import Actor


def command_line_actor() -> Actor:
    """Actor of a management command, named after the machine's user."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return Actor.cli(f"{name} (command line)")
