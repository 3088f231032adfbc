# SPDX-License-Identifier: Apache-2.0
"""What every command shares: its common options, the client behind them, and how names become uuids."""

from __future__ import annotations

import functools
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from prism.cli import config, output
from prism.cli.client import Client, Row, segment
from prism.cli.errors import CliError, Exit, printable

Function = Callable[..., Any]


@dataclass
class Session:
    """One run. `wait_seconds` None: do not wait for tasks; 0: wait as long as it takes."""

    site: str | None
    ca: str | None
    form: str
    wait_seconds: float | None = None
    timeout_seconds: float = 0.0
    key: str | None = None

    @functools.cached_property
    def client(self) -> Client:
        return Client(config.target(self.site, self.ca))

    def find(self, path: str, name: str, *, by: str, server_filter: bool, **query: object) -> Row:
        """The object called `name`: a uuid, or the value of its field `by`. Names that fit several are refused."""
        if _is_uuid(name):
            found: Row = self.client.get(f"{path}/{segment(name)}/")
            return found
        asked = {**query, by: name} if server_filter else query
        rows, _ = self.client.rows(f"{path}/", limit=0, **asked)
        fitting = [row for row in rows if str(row.get(by)) == name]
        noun = path.rstrip("s").replace("-", " ")
        if not fitting:
            raise CliError(
                f"There is no {noun} {name!r}.", f"The `ls` of {path} shows those there are.", code=Exit.NOT_FOUND
            )
        if len(fitting) > 1:
            keys = ", ".join(str(row["uuid"]) for row in fitting)
            raise CliError(f"Several are called {name!r}.", f"Name one by its uuid: {keys}.", code=Exit.INVALID)
        return fitting[0]

    def show(self, row: Any) -> None:
        output.show_one(row, self.form)

    def ordered(self, answer: Row) -> None:
        """After an order: show its task, and with --wait follow it to its end."""
        from prism.cli import waiting

        task = answer.get("task")
        if task is None:  # ordered for later
            return self.show(answer)
        if self.wait_seconds is not None:
            task = waiting.follow(self.client, str(task["uuid"]), limit_seconds=self.wait_seconds)
        elif self.form == "table":
            return click.echo(f"Task {task['uuid']} was started. Follow it with `prism task wait {task['uuid']}`.")
        self.show_task(task)

    def show_task(self, task: Row) -> None:
        """In a table only what matters; then the exit status, when it failed."""
        if self.form == "table":
            click.echo(printable(f"Task {task['uuid']} {task['state']}: {task['error'] or task['message'] or '-'}"))
        else:
            output.dump(task, self.form)
        if task["state"] in {"failed", "cancelled"}:
            raise click.exceptions.Exit(int(Exit.TASK_FAILED))


def command(group: click.Group, name: str, *, order: bool = False) -> Callable[[Function], click.Command]:
    """A command of `group`; its function gets a `Session` first. `order`: it starts a task, so it has --wait."""

    def decorate(function: Function) -> click.Command:
        @functools.wraps(function)
        def run(*args: Any, **values: Any) -> None:
            wait, timeout, key = (values.pop(word, None) for word in ("wait", "timeout", "idempotency_key"))
            seconds = float(timeout or 0)
            limit = seconds if wait else None
            session = Session(values.pop("site"), values.pop("ca"), values.pop("output"), limit, seconds, key)
            function(session, *args, **values)

        wrapped: Function = run
        for option in reversed(_common() + (_waiting() if order else [])):
            wrapped = option(wrapped)
        return group.command(name)(wrapped)

    return decorate


def _common() -> list[Callable[[Function], Function]]:
    return [
        click.option(
            "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", help="Form of the answer."
        ),
        click.option("--site", help="Name of a site in the configuration file, or https://ADDRESS:PORT."),
        click.option("--ca", type=click.Path(dir_okay=False), help="Certificates to trust (PEM)."),
    ]


def _waiting() -> list[Callable[[Function], Function]]:
    return [
        click.option("--wait", is_flag=True, help="Wait until the task is over; progress on a terminal."),
        click.option("--timeout", type=click.FloatRange(min=0.1), help="With --wait: give up after so many seconds."),
        click.option("--idempotency-key", help="Repeated with the same key, the order is carried out once."),
    ]


def confirm(question: str, *, yes: bool) -> None:
    """For what destroys something: asks on a terminal, is refused without one unless --yes was given."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError(f"{question} Nobody can be asked here.", "Repeat with --yes.", code=Exit.USAGE)
    click.confirm(question, abort=True, err=True)


def yes_option(function: Function) -> Function:
    return click.option("--yes", is_flag=True, help="Do not ask.")(function)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
