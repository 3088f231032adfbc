# SPDX-License-Identifier: Apache-2.0
"""What the engine's processes get of the processors (docs/design/0009): scheduling classes, slices and nice values.

Whole processes only: the threads of one interpreter take turns, and one of a lower class that has the turn would hold
up all others.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import threading
from enum import IntEnum
from typing import NamedTuple

LOW_NICE = 10
STEADY_NICE = 5
SLICE_MICROSECONDS = 100
"""Linux >= 6.12: who has a shorter slice than the one that runs is let in at once, not after up to 3 ms."""

_SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")


class Share(IntEnum):
    """Of the processors, beside a process that has not been lowered."""

    SPARE = 0
    """What nobody else wants; gives way at once."""

    LOW = 1
    """About a tenth of a core that somebody else wants, too."""

    EVEN = 2
    """As anybody."""


class Base(NamedTuple):
    """How this process was started: `EVEN`."""

    policy: int
    nice: int

    @classmethod
    def mine(cls) -> Base:
        return cls(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))


class Progress(NamedTuple):
    """Nanoseconds of all threads of a process."""

    ran: int
    waited: int


def give(thread: int, share: Share, base: Base) -> None:
    """Raises OSError when the thread is gone, or when this process may not."""
    if share is Share.SPARE:
        os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
        return
    os.setpriority(os.PRIO_PROCESS, thread, base.nice if share is Share.EVEN else min(19, base.nice + LOW_NICE))
    os.sched_setscheduler(thread, base.policy if share is Share.EVEN else os.SCHED_BATCH, os.sched_param(0))


def may_rise() -> bool:
    """Whether what is lowered can be raised again: root can, others with RLIMIT_NICE. Tried by a thread of its own."""
    found: list[bool] = []

    def attempt() -> None:
        base = Base.mine()
        with contextlib.suppress(OSError):
            give(threading.get_native_id(), Share.SPARE, base)
            give(threading.get_native_id(), Share.EVEN, base)
            found.append(Base.mine() == base)

    thread = threading.Thread(target=attempt, name="may-rise")
    thread.start()
    thread.join()
    return found == [True]


def settle() -> None:
    """For a process of background work, before its threads start: one that nobody can raise again later gives way a
    little, for good.
    """
    base = Base.mine()
    if base.policy == os.SCHED_OTHER and not may_rise():
        os.setpriority(os.PRIO_PROCESS, 0, min(19, base.nice + STEADY_NICE))
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def prompt() -> bool:
    """For a process that others wait for, before its threads start: a short slice. False where the system has none."""
    number = _SET_ATTRIBUTES.get(platform.machine())
    base = Base.mine()
    if number is None or base.policy != os.SCHED_OTHER:
        return False
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, base.nice, 0, SLICE_MICROSECONDS * 1000, 0, 0)
    try:
        return bool(ctypes.CDLL(None).syscall(number, 0, wanted, 0) == 0)
    except (OSError, AttributeError):
        return False


def threads(pid: int) -> list[int]:
    """None of a process that is gone."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def progress(pid: int) -> Progress | None:
    """None where the kernel does not count, or when the process is gone."""
    ran = waited = 0
    try:
        for thread in threads(pid):
            with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                fields = file.read().split()
            ran, waited = ran + int(fields[0]), waited + int(fields[1])
    except (OSError, ValueError, IndexError):
        return None
    return Progress(ran, waited)
