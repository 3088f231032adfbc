# SPDX-License-Identifier: Apache-2.0
"""How much of the processors the store gets: what guests leave, and more the fuller the log is (L6).

The front decides, for it knows the log, and its threads are not the ones that may have to wait. A store that is not
root's cannot be raised again, so it is never lowered here (`priority.settle`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable

from stargate import priority
from stargate.priority import Base, Progress, Share

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
LOW_FROM = 0.45
EVEN_FROM = 0.55
"""Fill of the log. The drain begins at a third, guests are slowed from 0.7 on."""

HYSTERESIS = 0.05

PROGRESS_SECONDS = 5.0
STARVED_BELOW = 0.05
STARVED_SECONDS = 0.5
"""A store that got less than this part of the time that it wanted in the last `PROGRESS_SECONDS`, and waited that long,
starves: replication and folds shall get on, too."""


def share_for(fill: float, now: Share, *, starved: bool) -> Share:
    """`fill`: used part of the log; `now`: what the store has, which it keeps a little longer than it needs it."""
    found = Share.LOW if starved else Share.SPARE
    for share, limit in ((Share.LOW, LOW_FROM), (Share.EVEN, EVEN_FROM)):
        if fill >= limit - (HYSTERESIS if now >= share else 0.0):
            found = max(found, share)
    return found


def is_starved(before: Progress, after: Progress) -> bool:
    ran, waited = after.ran - before.ran, after.waited - before.waited
    return waited > STARVED_SECONDS * 1e9 and ran < STARVED_BELOW * (ran + waited)


class Balance(threading.Thread):
    """`store`: pid of the connected store, None without one; `fill`: used part of the log."""

    def __init__(self, store: Callable[[], int | None], fill: Callable[[], float]) -> None:
        super().__init__(name="balance", daemon=True)
        self._store = store
        self._fill = fill
        self._base = Base.mine()
        self._stopped = threading.Event()
        self._pid = 0
        self._given: dict[int, Share] = {}
        self._share = Share.EVEN
        self._starved = False
        self._looks = 0
        self._progress: Progress | None = None

    @property
    def share(self) -> Share:
        """What the store has."""
        return self._share

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        if self._base.policy not in (os.SCHED_OTHER, os.SCHED_BATCH) or not priority.may_rise():
            log.info("no right to raise what was lowered: the store keeps one share of the processors")
            return
        while not self._stopped.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Once: decide, and give it to all threads of the store that have something else."""
        pid = self._store()
        if not pid:
            return
        if pid != self._pid:
            self._pid, self._given, self._starved, self._progress = pid, {}, False, None
        self._count(pid)
        self._share = share_for(self._fill(), self._share, starved=self._starved)
        alive = priority.threads(pid)
        self._given = {thread: self._given[thread] for thread in alive if thread in self._given}
        for thread in alive:
            if self._given.get(thread) is not self._share:
                with contextlib.suppress(OSError):  # ended since
                    priority.give(thread, self._share, self._base)
                    self._given[thread] = self._share

    def _count(self, pid: int) -> None:
        self._looks += 1
        if self._looks * LOOK_SECONDS < PROGRESS_SECONDS and self._progress is not None:
            return
        self._looks = 0
        before, self._progress = self._progress, priority.progress(pid)
        if before is not None and self._progress is not None:
            self._starved = is_starved(before, self._progress)
