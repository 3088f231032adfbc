# SPDX-License-Identifier: Apache-2.0
"""How full the file system under the engine is, in four words, and what each means (docs/design/0008)."""

from __future__ import annotations

from enum import IntEnum

from stargate.clock import Clock
from stargate.errors import NoSpace
from stargate.fs.disk import Disk
from stargate.units import GiB

LOOK_SECONDS = 0.25
TOLD_SECONDS = 5.0


class Level(IntEnum):
    """`SCARCE`: no new snapshots, no incoming replication. `FULL`: nothing is drained, folded or taken in."""

    GOOD = 0
    NEARLY_FULL = 1
    SCARCE = 2
    FULL = 3


_BELOW = (
    (Level.FULL, 0.02, 1 * GiB),
    (Level.SCARCE, 0.05, 8 * GiB),
    (Level.NEARLY_FULL, 0.10, 20 * GiB),
)


def threshold_bytes(level: Level, total_bytes: int) -> int:
    """The level begins with less free space than this."""
    for at, share, most in _BELOW:
        if at is level:
            return min(int(total_bytes * share), most)
    return total_bytes


def level_of(free_bytes: int, total_bytes: int) -> Level:
    return next((at for at, _, _ in _BELOW if free_bytes < threshold_bytes(at, total_bytes)), Level.GOOD)


class Gauge:
    """The present level, as the file system says or as somebody was just told who wanted to write."""

    def __init__(self, disk: Disk, clock: Clock) -> None:
        self._disk = disk
        self._clock = clock
        self._looked_at = float("-inf")
        self._told_at = float("-inf")
        self._level = Level.GOOD

    def tell_full(self) -> None:
        """A write found no space, whatever the file system says (a quota): believed for some seconds."""
        self._told_at = self._clock.monotonic()

    def tell_good(self) -> None:
        """A write found space again."""
        self._told_at = float("-inf")

    def level(self) -> Level:
        now = self._clock.monotonic()
        if now - self._told_at < TOLD_SECONDS:
            return Level.FULL
        if now - self._looked_at >= LOOK_SECONDS:
            self._level = level_of(self._disk.free_bytes(), self._disk.total_bytes())
            self._looked_at = now
        return self._level

    def refuse_from(self, level: Level, what: str) -> None:
        """Raises NoSpace at `level` and above; `what` cannot be done then."""
        found = self.level()
        if found >= level:
            words = "full" if found is Level.FULL else "almost full"
            raise NoSpace(f"{what}: the storage is {words}; delete snapshots or disks, or add space to its file system")
