# SPDX-License-Identifier: Apache-2.0
"""When each part of the stored data was last checked, and what is known to be damaged: `scrub/state`.

One checksummed file, replaced as a whole. It is no authority on anything: unreadable, it counts as empty, and all is
checked anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from crc32c import crc32c

from stargate.clock import Clock
from stargate.fs.disk import Disk, write_atomic
from stargate.units import MiB

PATH = "scrub/state"
MAGIC = "PRISMSCRUB 1"
STATE_BYTES_MAX = 64 * MiB
DAMAGED_MAX = 10_000
"""Findings kept by name; more are counted only."""


@dataclass(slots=True)
class Unit:
    """One part. `checked_at` 0: never. `failed_at`: when it was last tried and could not be checked, 0 = never."""

    seen_at: float
    checked_at: float = 0.0
    failed_at: float = 0.0

    @property
    def since(self) -> float:
        return self.checked_at or self.seen_at

    @property
    def tried_at(self) -> float:
        """Where it stands in the row: a part that cannot be checked must not keep the others waiting."""
        return max(self.since, self.failed_at)


@dataclass(slots=True)
class Finding:
    """`what` is a sentence for the operator. `unit`: the part in which it was met."""

    unit: str
    what: str
    found_at: float


@dataclass(slots=True)
class State:
    """All that the file holds. Times are seconds since 1970."""

    units: dict[str, Unit] = field(default_factory=dict)
    damaged: dict[str, Finding] = field(default_factory=dict)
    healed: int = 0
    pass_began_at: float = 0.0
    pass_ended_at: float = 0.0
    asked: list[str] = field(default_factory=list)
    """Parts that somebody asked to have read now and that were not read yet, in their order."""


class Dates:
    """The file in memory; `save` after each change that must last. One thread at a time."""

    def __init__(self, disk: Disk, clock: Clock) -> None:
        self._disk = disk
        self._clock = clock
        disk.mkdir("scrub")
        self.state = _load(disk) or State(pass_began_at=clock.now())

    def follow(self, names: Iterable[str]) -> None:
        """The parts that there are now."""
        units, now = self.state.units, self._clock.now()
        if not units:
            self.state.pass_began_at = now
        self.state.units = {name: units.get(name) or Unit(now) for name in names}
        self.state.asked = [name for name in self.state.asked if name in self.state.units]

    def oldest(self) -> str | None:
        """What was asked for comes first. Then the part whose last check, or first sight, is longest ago; before those
        what was never checked.
        """
        return self.state.asked[0] if self.state.asked else min(self.state.units, key=self._age, default=None)

    def ask(self) -> None:
        """Read every part now, not when its time comes."""
        self.state.asked = sorted(self.state.units, key=self._age)

    def _age(self, name: str) -> tuple[bool, float]:
        unit = self.state.units[name]
        return unit.checked_at > 0 or unit.failed_at > 0, unit.tried_at

    def oldest_at(self) -> float | None:
        return min((unit.since for unit in self.state.units.values()), default=None)

    def checked(self, name: str, found: dict[str, str]) -> None:
        """`name` was read; `found` is all that is damaged in it: key -> sentence."""
        state, now = self.state, self._clock.now()
        if name in state.units:
            state.units[name].checked_at = now
        if name in state.asked:
            state.asked.remove(name)
        known = {key: item for key, item in state.damaged.items() if item.unit != name}
        for key, what in list(found.items())[:DAMAGED_MAX]:
            before = state.damaged.get(key)
            known[key] = Finding(name, what, before.found_at if before else now)
        state.damaged = dict(list(known.items())[:DAMAGED_MAX])
        began = state.pass_began_at
        if all(unit.checked_at >= began or unit.seen_at > began for unit in state.units.values()):
            state.pass_began_at = state.pass_ended_at = now

    def failed(self, name: str, why: str) -> None:
        """`name` could not be checked; its age goes on growing."""
        if name in self.state.units:
            self.state.units[name].failed_at = self._clock.now()
        if name in self.state.asked:
            self.state.asked.remove(name)
        self.damaged(name, f"unchecked:{name}", f"The scrub cannot check {name}: {why}.")

    def damaged(self, unit: str, key: str, what: str) -> None:
        """Met by a reader, outside of a check."""
        if len(self.state.damaged) < DAMAGED_MAX and key not in self.state.damaged:
            self.state.damaged[key] = Finding(unit, what, self._clock.now())

    def dropped(self, keys: Iterable[str]) -> None:
        """Nobody needs these."""
        for key in keys:
            self.state.damaged.pop(key, None)

    def healed(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.state.damaged.pop(key, None)
            self.state.healed += 1

    def save(self) -> None:
        """Durable on return. Raises OSError."""
        body = json.dumps(asdict(self.state), separators=(",", ":")).encode()
        write_atomic(self._disk, PATH, f"{MAGIC} {crc32c(body):08x}\n".encode() + body)


def _load(disk: Disk) -> State | None:
    if not disk.exists(PATH):
        return None
    file = disk.open(PATH, read_only=True)
    try:
        raw = file.pread(min(file.size(), STATE_BYTES_MAX), 0)
    finally:
        file.close()
    return parse(raw)


def parse(raw: bytes) -> State | None:
    """None when it is damaged or of another version."""
    head, _, body = raw.partition(b"\n")
    if head != f"{MAGIC} {crc32c(body):08x}".encode():
        return None
    try:
        found: dict[str, Any] = json.loads(body)
        found["units"] = {name: Unit(**unit) for name, unit in found["units"].items()}
        found["damaged"] = {key: Finding(**item) for key, item in found["damaged"].items()}
        found["asked"] = [str(name) for name in found.get("asked", ())]
        return State(**found)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
