# SPDX-License-Identifier: Apache-2.0
"""What of the unsynced changes of a disk outlives a power cut: the choice that `MemDisk.crash` makes.

A medium may keep, lose or tear each change on its own, in any order and across files. Chances of one half for each
would hardly ever give the states in which mistakes show ("all but this one", "this one alone"), so a way is drawn
first, and then what it keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import pairwise
from random import Random
from typing import NamedTuple

SECTOR_BYTES = 512
PAGE_BYTES = 4096


class Change(NamedTuple):
    """A write (`data` set) or a truncation to `offset` (`data` None) that is not durable yet; `order` counts all of a
    disk's changes, names included."""

    offset: int
    data: bytes | None
    order: int = 0


class Way(Enum):
    """Which changes survive."""

    NONE = "none"
    ALL = "all"
    UP_TO = "all up to a moment, across files; the last one torn"
    BUT_ONE = "all but one, which is lost or torn"
    ONLY_ONE = "one alone"
    BYTES_ONLY = "all bytes, no names"
    NAMES_ONLY = "all names, no bytes"
    BY_FILE = "each file's bytes, and each name, whole or not at all"
    EACH = "each write, truncation and name on its own; any of them torn"


class Survival:
    """One crash. `orders` are the numbers of all changes that are not durable."""

    def __init__(self, rng: Random, orders: Sequence[int], way: Way | None = None) -> None:
        self._rng = rng
        self.way = way or rng.choice(list(Way))
        self._one = rng.choice(orders) if orders else 0
        self._files: dict[int, bool] = {}

    def keeps_name(self, order: int) -> bool:
        match self.way:
            case Way.ALL | Way.NAMES_ONLY:
                return True
            case Way.NONE | Way.BYTES_ONLY:
                return False
            case Way.UP_TO:
                return order <= self._one
            case Way.BUT_ONE:
                return order != self._one
            case Way.ONLY_ONE:
                return order == self._one
            case _:
                return self._rng.random() < 0.5

    def parts(self, change: Change, file: int) -> list[Change]:
        """What is left of a change to the bytes of `file` (any number that stands for it)."""
        rng, is_one = self._rng, change.order == self._one
        match self.way:
            case Way.ALL | Way.BYTES_ONLY:
                return [change]
            case Way.NONE | Way.NAMES_ONLY:
                return []
            case Way.UP_TO:
                return torn(change, rng) if is_one else [change] if change.order < self._one else []
            case Way.BUT_ONE:
                return [change] if not is_one else torn(change, rng) if rng.random() < 0.5 else []
            case Way.ONLY_ONE:
                return [change] if is_one else []
            case Way.BY_FILE:
                return [change] if self._files.setdefault(file, rng.random() < 0.5) else []
            case Way.EACH:
                return rng.choice([[], [change], torn(change, rng)])


def torn(change: Change, rng: Random) -> list[Change]:
    """Some of a write's sectors or pages: the first, the last, all but one, or any. A truncation is not torn."""
    if change.data is None:
        return [change]
    unit = rng.choice([SECTOR_BYTES, PAGE_BYTES])
    pieces = _pieces(change, unit)
    at = rng.randrange(len(pieces))
    match rng.randrange(4):
        case 0:
            return pieces[:at]
        case 1:
            return pieces[at + 1 :]
        case 2:
            return pieces[:at] + pieces[at + 1 :]
        case _:
            return [piece for piece in pieces if rng.random() < 0.5]


def _pieces(change: Change, unit: int) -> list[Change]:
    """A write cut at multiples of `unit` in its file."""
    data = change.data or b""
    start, end = change.offset, change.offset + len(data)
    edges = [start, *range((start // unit + 1) * unit, end, unit), end]
    return [Change(low, data[low - start : high - start], change.order) for low, high in pairwise(edges)]
