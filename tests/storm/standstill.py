# SPDX-License-Identifier: Apache-2.0
"""Did the machine itself stand still? Told apart from what the engine does, in measurements of a few milliseconds.

A process on each core, before all others (SCHED_FIFO), wakes every 2 ms and notes when it was late. One core may be
late because a system call does not let go of it. That all are at once has, as a rule, one cause: the host took the
processors away.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from bisect import bisect_left
from collections.abc import Sequence
from multiprocessing.connection import Connection

Span = tuple[float, float]

STEP_SECONDS = 0.002
LATE_SECONDS = 0.001
LOOK_EVERY = 50  # steps


def _watch(core: int, line: Connection) -> None:
    """Body of a process: sends whether it may watch, and at the end (due, came) of each wake-up that was late."""
    late: list[Span] = []
    gc.disable()
    try:
        os.sched_setaffinity(0, {core})
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        line.send(False)
        return
    line.send(True)
    due, steps = time.monotonic(), 0
    while steps % LOOK_EVERY or not line.poll():
        steps += 1
        due += STEP_SECONDS
        time.sleep(max(0.0, due - time.monotonic()))
        now = time.monotonic()
        if now - due > LATE_SECONDS:
            late.append((due, now))
            due = now
    line.send(late)


def together(cores: Sequence[Sequence[Span]]) -> list[Span]:
    """When all cores were late at once, in order. The spans of one core are in order and do not touch."""
    common: list[Span] = list(cores[0]) if cores else []
    for spans in cores[1:]:
        found: list[Span] = []
        for begin, end in common:
            at = max(0, bisect_left(spans, (begin, begin)) - 1)
            while at < len(spans) and spans[at][0] < end:
                if spans[at][1] > begin:
                    found.append((max(begin, spans[at][0]), min(end, spans[at][1])))
                at += 1
        common = found
    return common


def overlap(spans: Sequence[Span], begin: float, end: float) -> float:
    """Seconds of [begin, end) within `spans`, which are in order and do not touch."""
    at = max(0, bisect_left(spans, (begin, begin)) - 1)
    seconds = 0.0
    while at < len(spans) and spans[at][0] < end:
        seconds += max(0.0, min(end, spans[at][1]) - max(begin, spans[at][0]))
        at += 1
    return seconds


class Watch:
    """Watches from its making to `stop`."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._lines: list[Connection] = []
        self._processes = []
        for core in sorted(os.sched_getaffinity(0)):
            here, there = context.Pipe()
            process = context.Process(target=_watch, args=(core, there), daemon=True)
            process.start()
            there.close()
            self._lines.append(here)
            self._processes.append(process)
        answers = [line.recv() for line in self._lines]
        self._allowed = all(answers)

    def stop(self) -> list[Span] | None:
        """When all cores stood still at once; None: this user may not look."""
        cores: list[list[Span]] = []
        for line in self._lines if self._allowed else []:
            line.send("end")
            cores.append(line.recv())
        for process in self._processes:
            if not self._allowed:  # one may, another may not
                process.terminate()
            process.join(30)
        return together(cores) if self._allowed else None
