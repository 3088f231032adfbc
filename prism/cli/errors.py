# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, with the exit status of each. The numbers are a promise to scripts: docs/cli.md lists them."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import click


class Exit(IntEnum):
    """Exit statuses. 2 is click's own, for a command line that is not understood."""

    DONE = 0
    FAULT = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    REFUSED = 6
    INVALID = 7
    TASK_FAILED = 8
    TIMED_OUT = 9


_OF_STATUS = {
    401: Exit.NOT_ALLOWED,
    403: Exit.NOT_ALLOWED,
    404: Exit.NOT_FOUND,
    409: Exit.REFUSED,
    412: Exit.REFUSED,
    422: Exit.INVALID,
    429: Exit.UNREACHABLE,
    503: Exit.UNREACHABLE,
    507: Exit.REFUSED,
}


class CliError(click.ClickException):
    """Shown on stderr as `Error: ...`, with what to do next; `exit_code` is the process's status."""

    def __init__(self, message: str, next_step: str = "", *, code: Exit = Exit.FAULT) -> None:
        super().__init__(f"{message}\n{next_step}" if next_step else message)
        self.exit_code = int(code)  # type: ignore[misc]  # click says: class variable


def of_answer(status: int, body: Any) -> CliError:
    """The error of an HTTP answer in the API's error shape; of any other body only the status is told."""
    code = _OF_STATUS.get(status, Exit.FAULT)
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return CliError(
            f"The site answered with HTTP status {status}.", "See its logs, or ask its operator.", code=code
        )
    lines = [printable(error.get("message", ""))]
    fields = error.get("fields")
    if isinstance(fields, dict):
        lines += [f"  {printable(name)}: {printable(_words(why))}" for name, why in fields.items()]
    if code is Exit.FAULT:
        lines.append(f"  request {printable(error.get('request_id', '?'))}")
    return CliError("\n".join(lines), printable(error.get("next_step", "")), code=code)


def printable(value: Any) -> str:
    """Text of a site without control characters: a name must not steer the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value))


def _words(why: Any) -> str:
    return " ".join(str(part) for part in why) if isinstance(why, list) else str(why)
