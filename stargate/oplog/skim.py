# SPDX-License-Identifier: Apache-2.0
"""The short way through a full log: long runs of one-block writes, read as arrays instead of record by record.

A full log holds up to a million blocks; a restart has seconds for them. Only header and table of each batch are
looked at, with the same checks as `Cursor`, and only below what is proven durable. Whatever is anything else is left
to the cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from stargate.fs.disk import File
from stargate.oplog.format import (
    BATCH,
    BATCH_BODY,
    BATCH_MAGIC,
    RECORD_ONE_BLOCK,
    VERSION,
    WRITE,
    LogMark,
    Superblock,
    segment_seed,
)
from stargate.oplog.reader import Cursor
from stargate.units import BLOCK_BYTES, KiB

RUN_BATCHES_MIN = 16
"""Shorter runs are not worth their arrays."""

_HEAD_BYTES = 1 * KiB
"""What one read fetches: header and table of up to 34 writes."""

_ONE_BLOCK = np.dtype(
    [
        ("type", "u1"),
        ("flags", "u1"),
        ("reserved", "<u2"),
        ("handle", "<u4"),
        ("offset", "<u8"),
        ("length", "<u8"),
        ("crc", "<u4"),
    ]
)
assert _ONE_BLOCK.itemsize == RECORD_ONE_BLOCK.size


class Run(NamedTuple):
    """Writes of one block each, in the order of the log. `durable`: the highest position that a batch proves."""

    durable: int
    handles: npt.NDArray[np.uint32]
    blocks: npt.NDArray[np.uint64]  # of the vDisk
    positions: npt.NDArray[np.int64]
    crcs: npt.NDArray[np.uint32]


class Stretch(NamedTuple):
    """A part of the log, from `start` up to position `end`, that has to be read record by record."""

    start: LogMark
    incarnation: int
    end: int


class _Walk(NamedTuple):
    """Where a run ended, and what its batches hold."""

    mark: LogMark
    incarnation: int
    durable: int
    starts: list[int]
    counts: list[int]
    tables: list[bytes]


def skim(info: Superblock, cursor: Cursor, below: int) -> Run | int:
    """Step `cursor` over the one-block writes that follow in its segment and end at or below position `below`.

    An int: there is no run here; the cursor stands where it stood, and so many batches are to be read by it first.
    """
    if cursor.slot is None:
        return 1
    walk = _walk(info, cursor.slot.file, cursor.index, cursor.mark, cursor.incarnation, below)
    if len(walk.tables) < RUN_BATCHES_MIN:
        return len(walk.tables) + 1
    run = _run(walk)
    if run is None:
        return len(walk.tables)
    cursor.mark, cursor.incarnation = walk.mark, walk.incarnation
    return run


def _walk(info: Superblock, file: File, index: int, mark: LogMark, incarnation: int, below: int) -> _Walk:
    """Follow the chain through batches that by their sizes may be one-block writes. Hot: a million turns."""
    base = index * info.segment_bytes
    position, seq, last = mark
    seed, seeded, durable = segment_seed(info.log_id, incarnation, index), incarnation, 0
    below = min(below, base + info.segment_bytes)
    starts: list[int] = []
    counts: list[int] = []
    tables: list[bytes] = []
    while position < below:
        raw = file.pread(_HEAD_BYTES, position - base)
        if len(raw) < BATCH.size:
            break
        magic, version, size, writer, number, at, count, table, payload, known, previous, crc = BATCH.unpack_from(raw)
        start = at + BATCH.size + table
        if (magic, version, size, number, at, previous) != (BATCH_MAGIC, VERSION, BATCH.size, seq + 1, position, last):
            break
        if table != count * RECORD_ONE_BLOCK.size or payload != count * BLOCK_BYTES or start + payload > below:
            break
        if writer < incarnation or not count:
            break
        if writer != seeded:
            seed, seeded = segment_seed(info.log_id, writer, index), writer
        if BATCH.size + table > len(raw):
            raw = file.pread(BATCH.size + table, position - base)
        records = raw[BATCH.size : BATCH.size + table]
        if len(records) != table or crc32c(records, crc32c(raw[: BATCH_BODY.size], seed)) != crc:
            break
        position, seq, last, incarnation = start + payload, number, crc, writer
        durable = max(durable, known)
        starts.append(start)
        counts.append(count)
        tables.append(records)
    return _Walk(LogMark(position, seq, last), incarnation, durable, starts, counts, tables)


def _run(walk: _Walk) -> Run | None:
    """None when a record is something else, which the sizes alone do not show."""
    table = np.frombuffer(b"".join(walk.tables), dtype=_ONE_BLOCK)
    if not (table["type"] == WRITE).all() or not (table["length"] == BLOCK_BYTES).all():
        return None
    counts = np.array(walk.counts, dtype=np.int64)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    firsts = np.repeat(np.array(walk.starts, dtype=np.int64), counts)
    positions = firsts + (np.arange(len(table), dtype=np.int64) - before) * BLOCK_BYTES
    return Run(walk.durable, table["handle"], table["offset"] // BLOCK_BYTES, positions, table["crc"])


class Skimmer:
    """A walk of `cursor` to the end of the chain that keeps what it read: runs as such, the rest as stretches."""

    def __init__(self, info: Superblock, cursor: Cursor, proven: int) -> None:
        self.parts: list[Run | Stretch] = []
        self.durable = proven
        self._info = info
        self._cursor = cursor
        self._proven = proven

    def run(self) -> None:
        cursor = self._cursor
        start, incarnation = cursor.mark, cursor.incarnation
        slow = 0
        while True:
            if slow == 0 and cursor.mark.position < self._proven:
                mark = cursor.mark
                found = skim(self._info, cursor, self._proven)
                if isinstance(found, Run):
                    self._stretch(start, incarnation, mark)
                    self.parts.append(found)
                    self.durable = max(self.durable, found.durable)
                    start, incarnation = cursor.mark, cursor.incarnation
                    continue
                slow = found
            batch = cursor.next()
            if batch is None:
                break
            self.durable = max(self.durable, batch.durable)
            slow = max(0, slow - 1)
        self._stretch(start, incarnation, cursor.mark)

    def _stretch(self, start: LogMark, incarnation: int, end: LogMark) -> None:
        if start.position < end.position:
            self.parts.append(Stretch(start, incarnation, end.position))


def by_disk(run: Run) -> Iterator[tuple[int, list[int], list[int], list[int]]]:
    """(handle, blocks in ascending order, positions, crcs) per vDisk; of several writes to a block the last counts."""
    for handle in np.unique(run.handles).tolist():
        mine = np.flatnonzero(run.handles == handle)
        order = mine[np.argsort(run.blocks[mine], kind="stable")]
        blocks = run.blocks[order]
        last = np.append(blocks[1:] != blocks[:-1], True)
        kept = order[last]
        yield handle, blocks[last].tolist(), run.positions[kept].tolist(), run.crcs[kept].tolist()
