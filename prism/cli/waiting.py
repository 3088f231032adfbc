# SPDX-License-Identifier: Apache-2.0
"""Following a task to its end. The line of progress goes to stderr, and only to a terminal."""

from __future__ import annotations

import sys
import time

import click

from prism.cli.client import Client, Row, segment
from prism.cli.errors import CliError, Exit, printable
from prism.cli.output import size

FINISHED = {"succeeded", "failed", "cancelled"}
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 2.0


def follow(client: Client, key: str, *, limit_seconds: float) -> Row:
    """The task once it is over, however it ended. `limit_seconds` 0: no limit; past it the task itself goes on."""
    stream = sys.stderr
    shown = stream.isatty()
    started, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
    while True:
        task: Row = client.get(f"tasks/{segment(key)}/")
        if shown:
            click.echo(f"\r\x1b[K{progress(task)}", nl=False, file=stream)
        if task["state"] in FINISHED:
            break
        left = limit_seconds - (time.monotonic() - started) if limit_seconds else pause
        if left <= 0:
            raise CliError(
                f"Task {key} is still {task['state']} after {limit_seconds:g} s; it goes on.",
                f"Follow it with `prism task wait {key}`.",
                code=Exit.TIMED_OUT,
            )
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
    if shown:
        click.echo("\r\x1b[K", nl=False, file=stream)
    return task


def progress(task: Row) -> str:
    """One line: what, how far, how fast, how long still. Without a known total no percentage is invented."""
    parts = [f"{task['kind']} {task['object_name']}".strip(), task["phase"] or task["state"]]
    total, done, rate = task["total_bytes"], task["done_bytes"], task["rate"]
    if total:
        parts.append(f"{task['percent']} % of {size(total)}")
    elif done:
        parts.append(size(done))
    if rate:
        parts.append(f"{size(rate)}/s")
    if task["seconds_left"] is not None:
        parts.append(f"{task['time_left']} left")
    if task["stalled"]:
        parts.append(f"stalled since {task['stalled_since']}")
    if task["waits_for"]:
        parts.append(f"waits for {task['waits_for']}")
    return printable(" · ".join(parts))
