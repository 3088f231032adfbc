# SPDX-License-Identifier: Apache-2.0
"""Damaged mode (L3, design note 0007): what the front serves when the log lost a part below a durable position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from stargate.catalog.state import VDisk
from stargate.errors import LogDamaged
from stargate.fs.disk import Buffer

WAY_OUT = (
    "Snapshots taken before it can be read, cloned from at the other site and sent there: activate there. "
    "Or stop the engine and give the loss up with `python -m stargate accept-loss`; see docs/operations.md"
)
STILL_WHOLE = "All disks can still be read as they are: copy them, or activate at the other site, before any restart"


class Damage(NamedTuple):
    """Where the log breaks off. `heads_lost`: what disks held last is unknown, for the front started after the damage;
    a front that ran when it was found has it all in its maps.
    """

    position: int
    reason: str
    heads_lost: bool

    @property
    def message(self) -> str:
        """For an operator: where, and what to do."""
        return f"read-only: {self.reason}. {WAY_OUT if self.heads_lost else STILL_WHOLE}"

    @property
    def brief(self) -> str:
        """Beside each disk."""
        return "read-only: the log is damaged" + (", last content unknown" if self.heads_lost else "")

    def error(self) -> LogDamaged:
        return LogDamaged(self.message, str(self.position))

    def shown(self) -> dict[str, Any]:
        return {"position": self.position, "heads_lost": self.heads_lost, "message": self.message}


class LostHead:
    """The export of a disk whose last content is unknown: any block may have been changed by what was lost, so each is
    refused (D2: never an older value).
    """

    read_only = True
    answers_when_durable = False

    def __init__(self, disk: VDisk, damage: Damage) -> None:
        self._damage = damage
        self.vdisk = disk.vdisk
        self.name = disk.export_name
        self.size_bytes = disk.size_bytes
        self.description = f"vDisk {disk.vdisk}"

    def write(self, offset: int, data: memoryview) -> None:
        raise self._damage.error()

    def zero(self, offset: int, length: int, punch: bool) -> None:
        raise self._damage.error()

    def read(self, offset: int, length: int) -> Sequence[Buffer]:
        raise self._damage.error()

    def read_later(self, offset: int, length: int) -> None:
        raise self._damage.error()

    def extents(self, offset: int, length: int) -> list[tuple[int, int]]:
        """All of it as data: nobody may take it for zeros."""
        return [(length, 0)]

    def pace(self) -> float:
        return 0.0
