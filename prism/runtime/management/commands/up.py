# SPDX-License-Identifier: Apache-2.0
"""`manage.py up`: start the sites of this machine and stay with them until Ctrl-C."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from prism.layout import LayoutError
from prism.runtime import bringup
from prism.runtime.child import ChildFailed
from prism.runtime.children import ROOT
from prism.runtime.lock import AlreadyRunning, SupervisorLock, holder
from prism.runtime.postgres import PostgresError
from prism.runtime.preflight import PreflightError, check_folder
from prism.runtime.privilege import PrivilegeError
from prism.runtime.screen import Screen
from prism.runtime.supervisor import Interrupted, StepFailed, Supervisor, end_orphans

_REFUSALS = (PreflightError, LayoutError, PrivilegeError, PostgresError)
_FAILURES = (ChildFailed, StepFailed)


class Command(BaseCommand):
    help = "Start the sites of this machine and stay with them until Ctrl-C."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--sites", type=int, choices=(1, 2), default=2, help="how many sites (default 2)")
        parser.add_argument("--listen", default=None, help="address of the one site (with --sites 1)")
        parser.add_argument("--name", default=None, help="name of the one site, when it is made")
        parser.add_argument("--root", type=Path, default=ROOT / "var", help="folder of the sites' data folders")

    def handle(self, *args: Any, **options: Any) -> None:
        plan = bringup.Plan(options["root"].resolve(), options["sites"], options["listen"] or None, options["name"])
        screen = Screen()
        try:
            check_folder(plan.root)
            with SupervisorLock(plan.root):
                for number in plan.numbers:
                    end_orphans(plan.layout(number), screen)
                bringup.check(plan)
                ok = asyncio.run(_run(plan, screen))
        except AlreadyRunning as error:
            other = holder(plan.root)
            who = f" (pid {other.pid})" if other else ""
            raise CommandError(f"Already running{who}. `make status` shows it, `make down` stops it.") from error
        except _REFUSALS as error:
            raise CommandError(f"{error}\nNothing was started.") from error
        if not ok:
            sys.exit(1)


async def _run(plan: bringup.Plan, screen: Screen) -> bool:
    """Bring up, wait, stop. False when a site did not come up (everything is stopped again then)."""
    supervisor = Supervisor(screen)
    supervisor.catch_signals()
    ok = True
    try:
        screen.say(f"Starting {plan.sites} site(s) in {plan.root}")
        passwords = await bringup.bring_up(plan, supervisor, screen)
        bringup.announce(supervisor, passwords, screen)
        await supervisor.wait_for_stop()
    except Interrupted:
        pass
    except _FAILURES as error:
        screen.say(
            f"\n{error}\n\nThe site did not come up. Logs: {plan.root}/site*/logs. Mend the cause and start again."
        )
        ok = False
    finally:
        await supervisor.stop_all()
    return ok
