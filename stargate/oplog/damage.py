# SPDX-License-Identifier: Apache-2.0
"""`DamagedLog`: a log that lost its chain below a durable position, opened to read what stands before (L3).

It looks like an `OpLog` that ends where the damage begins. Nothing in the folder is written, truncated or used again,
and nothing is appended: what the lost part held is known to nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from stargate.errors import LogDamaged, NotFound
from stargate.fs.disk import Disk, File
from stargate.oplog.format import Append, Appended, LogMark, Superblock, damaged, first_mark
from stargate.oplog.log import OpLog
from stargate.oplog.reader import Cursor, blocks_hold
from stargate.oplog.recovery import Recovered, recover
from stargate.oplog.skim import Skimmer
from stargate.oplog.slots import Slot, open_slots
from stargate.oplog.superblock import load_superblock
from stargate.units import GiB, MiB

LOG_MADE = "oplog.made"
"""An empty file beside the log's folder: a log was handed out here. It speaks while the catalog has no id of it."""


class DamagedLog(OpLog):
    """`damage` says where and why. `appended` and `durable` are the last mark of the chain, for ever."""

    damage: LogDamaged

    @classmethod
    def open_damaged(
        cls, disk: Disk, path: str, *, log_id: bytes, covered: LogMark | None, damage: LogDamaged
    ) -> DamagedLog:
        """Walk from `covered` (what the catalog holds, None: nothing yet) to the damage; that far all is durable.

        `log_id` counts when the superblock is gone too. Raises Unavailable when another process has the log.
        """
        disk.mkdir(path)
        lock = disk.lock(f"{path}/lock")
        info = Superblock(log_id, 64 * MiB, 4 * GiB, 0)
        slots: list[Slot] = []
        try:
            with suppress(LogDamaged, NotFound):
                info = load_superblock(disk, path)[0]
                slots = open_slots(disk, path, info, read_only=True)
            start = covered or first_mark(info.log_id)
            found = _walk(info, slots, start, lock)
            opened = cls(disk, path, lock, info, slots, found, start)
        except BaseException:
            for slot in slots:
                slot.file.close()
            lock.close()
            raise
        opened.damage = damage
        if not any(slot.file is found.slot.file for slot in slots):
            opened._segments = {}
        return opened

    @property
    def frozen(self) -> str | None:
        return self.damage.message

    def append(self, items: Sequence[Append], *, wait: bool = True) -> list[Appended]:
        """Raises LogDamaged."""
        raise self.damage

    def sync(self, *, note: bool = True) -> int:
        """All that can be read was durable before."""
        return self._appended.position

    def try_sync(self) -> bool:
        """As `sync`."""
        return True

    def note(self) -> None:
        """The note stays as it was found."""

    def prepare(self) -> None:
        """No segment follows."""

    def release(self, up_to: int) -> None:
        """The store has drained up to there. The slots stay as they are: nothing is used again."""
        self._released = max(self._released, min(up_to, self._appended.position))

    def read(self, position: int, length: int, crcs: Sequence[int]) -> bytes:
        """Payload bytes, every block checked. Raises LogDamaged."""
        index, offset = divmod(position, self.info.segment_bytes)
        slot = self._segments.get(index)
        data = slot.file.pread(length, offset) if slot is not None else b""
        if len(data) != length or not blocks_hold(data, crcs):
            raise damaged(position, "the stored bytes fail their checksum")
        return data


def _walk(info: Superblock, slots: Sequence[Slot], covered: LogMark, nowhere: File) -> Recovered:
    """Up to where the chain ends. Of two slots that claim the same segment neither is believed."""
    by_index: dict[int, list[Slot]] = {}
    for slot in slots:
        if slot.header is not None:
            by_index.setdefault(slot.header.segment_index, []).append(slot)
    sole = {index: claims[0] for index, claims in by_index.items() if len(claims) == 1}
    cursor = Cursor(info, sole.get, covered, verify_above=None)
    if cursor.slot is None:
        return Recovered(covered, Slot(-1, nowhere, None), covered.position, info.incarnation, [])
    walk = Skimmer(info, cursor, 1 << 63)
    walk.run()
    end = cursor.slot or Slot(-1, nowhere, None)
    return Recovered(cursor.mark, end, cursor.mark.position, info.incarnation, walk.parts)


def damage_of(disk: Disk, path: str, covered: LogMark | None) -> LogDamaged | None:
    """Why `OpLog.open` would refuse this log; None when it would not. Changes nothing."""
    slots: list[Slot] = []
    try:
        info = load_superblock(disk, path)[0]
        slots = open_slots(disk, path, info, read_only=True)
        recover(info, slots, covered or first_mark(info.log_id), 0)
    except LogDamaged as exc:
        return exc
    except NotFound:
        return damaged(covered.position if covered else 0, "the log is gone")
    finally:
        for slot in slots:
            slot.file.close()
    return None
