# SPDX-License-Identifier: Apache-2.0
"""Finding the end of the log after a crash, and telling a torn tail from damage (L3).

Reads only: nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stargate.fs.disk import File
from stargate.oplog.format import (
    BATCH,
    BATCH_MAGIC,
    FOOTER,
    FOOTER_MAGIC,
    SEGMENT_HEADER_BYTES,
    LogMark,
    Superblock,
    damaged,
    pack_segment,
    parse_footer,
)
from stargate.oplog.reader import Cursor, read_batch_header
from stargate.oplog.skim import Run, Skimmer, Stretch
from stargate.oplog.slots import Slot, write_whole
from stargate.units import MiB


class Recovered(NamedTuple):
    """The end of the log. `rewrite_from`: bytes of the last segment from here to `end` were perhaps never made durable.

    `incarnation` is the highest one seen anywhere. A footer behind `end` is not kept: its successor was never begun.
    `parts`: what was read on the way, in order, so that nothing has to be read twice.
    """

    end: LogMark
    slot: Slot
    rewrite_from: int
    incarnation: int
    parts: list[Run | Stretch]


def recover(info: Superblock, slots: Sequence[Slot], covered: LogMark, known_durable: int) -> Recovered:
    """Walk from `covered` to the end. Raises LogDamaged when that end lies below any position known to be durable."""
    by_index: dict[int, Slot] = {}
    for slot in slots:
        if slot.header is not None:
            if slot.header.segment_index in by_index:
                raise damaged(slot.header.segment_index * info.segment_bytes, "two slots claim the same segment")
            by_index[slot.header.segment_index] = slot
    first = covered.position // info.segment_bytes
    later = [slot.header for slot in slots if slot.header is not None and slot.header.segment_index > first]
    proven = max([covered.position, known_durable, *(h.previous.position for h in later)])
    while True:
        cursor = Cursor(info, by_index.get, covered, verify_above=proven)
        walk = Skimmer(info, cursor, proven)
        walk.run()
        last = cursor.slot
        if last is None:
            raise damaged(covered.position, "the segment that the catalog continues from is missing")
        rest = list(_units(info, last.file, cursor.index, cursor.mark.position - cursor.index * info.segment_bytes))
        known = max(_proofs(info, cursor, slots, [walk.durable, *(unit.durable for unit in rest)]))
        if known <= cursor.mark.position:
            break
        if known <= proven:
            raise damaged(cursor.mark.position, f"position {known} is known to be durable")
        proven = known  # what lies below was durable: a payload that fails there is not torn, its reader is told
    seen = [*(h.incarnation for h in later), *(unit.incarnation for unit in rest)]
    return Recovered(
        cursor.mark,
        last,
        max(walk.durable, cursor.index * info.segment_bytes + SEGMENT_HEADER_BYTES),
        max([info.incarnation, cursor.incarnation, *seen]),
        walk.parts,
    )


def _proofs(info: Superblock, cursor: Cursor, slots: Sequence[Slot], proofs: list[int]) -> list[int]:
    """`proofs` with the durable positions that other slots know of. Raises LogDamaged when a later segment exists."""
    following = cursor.index + 1
    for slot in slots:
        if slot.header is not None and slot.header.segment_index >= following:
            raise damaged(
                cursor.mark.position, f"segment {slot.header.segment_index} exists, so all before it was durable"
            )
        # A slot that lost its header but holds the next segment's first batch speaks too.
        if read_batch_header(info, slot.file, following, SEGMENT_HEADER_BYTES) is not None:
            proofs += [unit.durable for unit in _units(info, slot.file, following, SEGMENT_HEADER_BYTES)]
    return proofs


class _Unit(NamedTuple):
    incarnation: int
    durable: int


def _units(info: Superblock, file: File, index: int, start: int) -> Iterator[_Unit]:
    """Every batch header or footer of segment `index` from byte `start` on whose own checksum holds, chained or not."""
    overlap = max(len(BATCH_MAGIC), len(FOOTER_MAGIC)) - 1
    for base in range(start, info.segment_bytes, MiB):
        window = file.pread(min(MiB + overlap, info.segment_bytes - base), base)
        for at in _find_all(window, BATCH_MAGIC):
            found = (
                read_batch_header(info, file, index, base + at)
                if base + at + BATCH.size <= info.segment_bytes
                else None
            )
            if found is not None:
                yield _Unit(found[0].incarnation, found[0].durable)
        for at in _find_all(window, FOOTER_MAGIC):
            footer = parse_footer(file.pread(FOOTER.size, base + at), 0, info.log_id, index)
            if footer is not None:
                yield _Unit(footer.incarnation, footer.durable)


def _find_all(window: bytes, magic: bytes) -> Iterator[int]:
    at = window.find(magic)
    while at >= 0:
        yield at
        at = window.find(magic, at + 1)


def settle(info: Superblock, found: Recovered) -> None:
    """Make durable what was recovered, by writing it again: after a failed sync the kernel holds pages that only look
    stored.
    """
    file = found.slot.file
    header = found.slot.header
    if header is None:
        raise damaged(found.end.position, "the last segment has no header")
    write_whole(file, pack_segment(info, header), 0)
    base = header.segment_index * info.segment_bytes
    offset, end = found.rewrite_from - base, found.end.position - base
    while offset < end:
        piece = file.pread(min(MiB, end - offset), offset)
        write_whole(file, piece, offset)
        offset += len(piece)
    file.fdatasync()
