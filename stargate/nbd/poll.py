# SPDX-License-Identifier: Apache-2.0
"""epoll with a short busy wait where that pays: waking a sleeping thread costs more than a small request."""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass

SPIN_SECONDS = 50e-6
_MISSES = 8
_LOAD_EVERY_SECONDS = 1.0
EVENTS = 256
"""Looked at in one turn; epoll begins with the others next time."""


LONG_TURN_SECONDS = 2e-3
"""No turn of the loop should take longer: meanwhile nobody is served."""


@dataclass(slots=True)
class LoopTurns:
    """How long the loop was away from its clients, between two waits. Counted since the start."""

    count: int = 0
    long: int = 0
    longest_seconds: float = 0.0
    longest_alone_seconds: float = 0.0
    """The longest wait for the disk on behalf of a client that was alone; in no turn's time, for it kept nobody."""

    def add(self, seconds: float) -> None:
        self.count += 1
        if seconds > self.longest_seconds:
            self.longest_seconds = seconds
        if seconds > LONG_TURN_SECONDS:
            self.long += 1


class SpinningPoll:
    """`wait` polls without sleeping for up to 50 us after activity.

    A run of misses stops that until events come quickly again; a machine with more work than cores is left alone."""

    def __init__(self, *, spin: bool = True) -> None:
        self.epoll = select.epoll()
        self._cores = os.cpu_count() or 1
        self._allowed = spin and self._cores > 1
        self._credit = _MISSES
        self._busy = False
        self._load_read_at = 0.0
        self._returned_at = 0.0
        self.turns = LoopTurns()

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        """Events, or none after `timeout` seconds (negative: for ever)."""
        now = time.perf_counter()
        if self._returned_at:
            self.turns.add(now - self._returned_at)
        events = self._wait(timeout, now)
        self._returned_at = time.perf_counter()
        return events

    def waited_alone(self, seconds: float) -> None:
        """The turn at work waited so long for the disk while there was nobody else to serve."""
        self._returned_at += seconds
        self.turns.longest_alone_seconds = max(self.turns.longest_alone_seconds, seconds)

    def _wait(self, timeout: float, now: float) -> list[tuple[int, int]]:
        poll = self.epoll.poll
        events = poll(0, EVENTS)
        if events or timeout == 0 or not self._allowed:
            return events or (poll(timeout, EVENTS) if timeout else events)
        started = now
        if self._credit and not self._machine_busy(now):
            until = started + SPIN_SECONDS
            while now < until:
                events = poll(0, EVENTS)
                if events:
                    self._credit = _MISSES
                    return events
                now = time.perf_counter()
            self._credit -= 1
        events = poll(timeout, EVENTS)
        if not self._credit and time.perf_counter() - started < SPIN_SECONDS:
            self._credit = 1
        return events

    def _machine_busy(self, now: float) -> bool:
        if now - self._load_read_at > _LOAD_EVERY_SECONDS:
            self._load_read_at = now
            self._busy = os.getloadavg()[0] > self._cores + 0.5
        return self._busy

    def close(self) -> None:
        self.epoll.close()
