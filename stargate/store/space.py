# SPDX-License-Identifier: Apache-2.0
"""The store's dealings with a full file system: who may write, and a reserve that is given up so that deleting works.

A threshold is of no use when another program takes the last byte; a file that can be unlinked is. While it is gone only
commits and the sweep write: bulk work waits, for it would take the reserve and leave nothing.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress

from stargate.clock import Clock
from stargate.errors import NoSpace
from stargate.fs.disk import Disk
from stargate.space import Gauge, Level, level_of, threshold_bytes
from stargate.units import MiB

log = logging.getLogger(__name__)

RESERVE_PATH = "reserve"
RESERVE_BYTES = 32 * MiB
RESERVE_AFTER_SECONDS = 5.0
"""A start has other things to write first."""

RESERVE_SHARE = 64
"""On a small file system the reserve is no more than one part in this many."""

HISTORY_MAX = 60
HISTORY_SECONDS = 600.0
RUNWAY_FROM_SECONDS = 3600.0


class Space:
    """Level, reserve and forecast of one data folder. Safe between threads."""

    def __init__(self, disk: Disk, clock: Clock, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._disk = disk
        self._clock = clock
        self._gauge = Gauge(disk, clock)
        self._lock = threading.Lock()
        self._reserve_bytes = min(reserve_bytes, disk.total_bytes() // RESERVE_SHARE) & -MiB
        self._complete = self._whole()
        self._given_up = False
        self._make_from = clock.monotonic() + RESERVE_AFTER_SECONDS
        self._history: list[tuple[float, int]] = []

    # -- who may write ------------------------------------------------------------------------------------------------

    def level(self) -> Level:
        """A store that gave up its reserve is full until it has it again."""
        return Level.FULL if self._given_up else self._gauge.level()

    def bulk(self) -> None:
        """Before a drain, a fold or a batch of received data. Raises NoSpace."""
        if self._given_up or level_of(self._disk.free_bytes(), self._disk.total_bytes()) is Level.FULL:
            raise NoSpace("the storage is full; delete snapshots or disks, or add space to the site's file system")

    def incoming(self) -> None:
        """Before a snapshot of another site is let in. Raises NoSpace."""
        if self.level() >= Level.SCARCE:
            raise NoSpace("the receiving site's storage is almost full; delete snapshots there or add space to it")

    def failed(self) -> None:
        """A write found no space, whatever the file system says of itself."""
        self._gauge.tell_full()

    def worked(self) -> None:
        self._gauge.tell_good()

    def free_bytes(self) -> int:
        """Of the file system."""
        return self._disk.free_bytes()

    def total_bytes(self) -> int:
        return self._disk.total_bytes()

    # -- the reserve --------------------------------------------------------------------------------------------------

    def release(self) -> bool:
        """Give the reserve up; False when it is gone already. For what must not fail: catalog, index, sweep."""
        with self._lock:
            if not self._disk.exists(RESERVE_PATH):
                return False
            log.warning("the storage is full: the reserve is given up for the catalog and the sweep")
            self._given_up = self._reserve_bytes > 0
            self._complete = not self._given_up
            self._disk.unlink(RESERVE_PATH)
            return True

    def tend(self) -> None:
        """Make the reserve when it is missing and there is room for it. Called every second or so."""
        self._remember()
        if self._complete or self._clock.monotonic() < self._make_from:
            return
        total = self._disk.total_bytes()
        if self._disk.free_bytes() < threshold_bytes(Level.FULL, total) + 2 * self._reserve_bytes:
            return
        with self._lock, suppress(OSError):
            self._fill()
            self._complete = self._whole()
            self._given_up = self._given_up and not self._complete

    def _whole(self) -> bool:
        if not self._reserve_bytes:
            return True
        if not self._disk.exists(RESERVE_PATH):
            return False
        file = self._disk.open(RESERVE_PATH, read_only=True)
        try:
            return file.size() >= self._reserve_bytes
        finally:
            file.close()

    def _fill(self) -> None:
        """Random bytes: a file system that compresses would keep no space for zeros."""
        file = self._disk.open(RESERVE_PATH, create=True)
        try:
            piece = os.urandom(MiB)
            for at in range(file.size() & -MiB, self._reserve_bytes, MiB):
                file.pwritev([at.to_bytes(8, "little"), piece[8:]], at)
            file.fdatasync()
        except OSError:
            with suppress(OSError):  # half a reserve is in the way of what it was for
                self._disk.unlink(RESERVE_PATH)
            raise
        finally:
            file.close()

    # -- what to show -------------------------------------------------------------------------------------------------

    def _remember(self) -> None:
        now = self._clock.monotonic()
        if not self._history or now - self._history[-1][0] >= HISTORY_SECONDS:
            self._history = [*self._history[-HISTORY_MAX + 1 :], (now, self._disk.free_bytes())]

    def runway_seconds(self) -> float | None:
        """Until nothing is free, at the pace of the last hours; None: not known yet, or it does not shrink."""
        if not self._history:
            return None
        began, before = self._history[0]
        passed, free = self._clock.monotonic() - began, self._disk.free_bytes()
        if passed < RUNWAY_FROM_SECONDS or free >= before:
            return None
        return free * passed / (before - free)

    def facts(self) -> dict[str, object]:
        """Of `usage`: free and all bytes of the file system, the level in words, the reserve, the forecast."""
        return {
            "free_bytes": self._disk.free_bytes(),
            "capacity_bytes": self._disk.total_bytes(),
            "level": self.level().name.lower(),
            "reserve_bytes": self._reserve_bytes if self._complete else 0,
            "runway_seconds": self.runway_seconds(),
        }
