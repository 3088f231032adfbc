# SPDX-License-Identifier: Apache-2.0
"""Reading the log: the walk along the chain of batches, and `LogReader` for processes that do not write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from crc32c import crc32c

from stargate.checksum import block_crcs
from stargate.errors import DamagedData, Unavailable
from stargate.fs.disk import Disk, File
from stargate.oplog.format import (
    BATCH,
    CONTROL,
    FOOTER,
    SEGMENT_HEADER_BYTES,
    WRITE,
    BatchHeader,
    LogBatch,
    LogMark,
    LogRecord,
    Superblock,
    batch_holds,
    damaged,
    parse_batch_header,
    parse_footer,
    parse_table,
)
from stargate.oplog.slots import Slot, read_header, slot_numbers, slot_path
from stargate.oplog.superblock import load_superblock
from stargate.units import BLOCK_BYTES

_HEAD_BYTES = 4096
"""What one read fetches of a batch: header and table of most batches."""


class LogRangeGone(Unavailable):
    """The range was released and its slot used again: whoever asks works from an old position and must reload."""


def blocks_hold(data: bytes, crcs: Sequence[int]) -> bool:
    """Has every 4-KiB block of `data` its checksum?"""
    if len(crcs) == 1:
        return crc32c(data) == crcs[0]
    if len(data) != len(crcs) * BLOCK_BYTES:
        return False
    return block_crcs(data) == tuple(crcs)


def read_batch_header(info: Superblock, file: File, index: int, offset: int) -> tuple[BatchHeader, bytes] | None:
    """The batch header at `offset` of segment `index` with its table, when its checksum holds; else None."""
    raw = file.pread(_HEAD_BYTES, offset)
    header = parse_batch_header(raw, 0, info.segment_bytes - offset)
    if header is None or header.position != index * info.segment_bytes + offset:
        return None
    size = BATCH.size + header.table_bytes
    raw = raw[:size] if size <= len(raw) else file.pread(size, offset)
    if len(raw) != size or not batch_holds(header, raw, info.log_id, index):
        return None
    return header, raw[BATCH.size :]


def read_batch(
    info: Superblock, file: File, index: int, offset: int, *, verify: bool
) -> tuple[BatchHeader, LogBatch] | None:
    """The whole batch at `offset`, with CONTROL payloads always checked and WRITE payloads when `verify`; None when
    it fails.
    """
    found = read_batch_header(info, file, index, offset)
    if found is None:
        return None
    header, table = found
    records = parse_table(header, table)
    if records is None:
        return None
    start = index * info.segment_bytes
    for at, record in enumerate(records):
        if record.type == CONTROL or (verify and record.type == WRITE):
            payload = file.pread(record.length, record.position - start)
            if not blocks_hold(payload, record.crcs):
                return None
            if record.type == CONTROL:
                records[at] = LogRecord(*record[:-1], payload)
    return header, LogBatch(header.seq, header.position, header.end, header.crc, header.durable, records)


class Cursor:
    """Walks the chain from a mark. `mark` is always the end of what was accepted.

    WRITE payloads of batches that end above `verify_above` are checked; None: never. `lookup` gives the slot of a
    segment or None.
    """

    def __init__(
        self, info: Superblock, lookup: Callable[[int], Slot | None], start: LogMark, *, verify_above: int | None
    ) -> None:
        self._info = info
        self._lookup = lookup
        self._verify_above = verify_above
        self.mark = start
        self.index = start.position // info.segment_bytes
        self.slot = lookup(self.index)
        self.incarnation = 0

    def next(self) -> LogBatch | None:
        """The next batch of the chain; None when what follows does not continue it."""
        while self.slot is not None:
            offset = self.mark.position - self.index * self._info.segment_bytes
            batch = self._batch(self.slot.file, offset)
            if batch is not None or not self._enter_next(self.slot.file, offset):
                return batch
        return None

    def until(self, end: int) -> Iterator[LogBatch]:
        """All batches up to `end`, which were read before. Raises LogDamaged when they cannot be read now."""
        while self.mark.position < end:
            batch = self.next()
            if batch is None and self.mark.position < end:
                raise damaged(self.mark.position, "a batch that was read at start is unreadable now")
            if batch is None or batch.end > end:
                return  # only the step into a fresh segment lay between
            yield batch

    def _batch(self, file: File, offset: int) -> LogBatch | None:
        found = read_batch(self._info, file, self.index, offset, verify=False)
        if found is None:
            return None
        header, batch = found
        if (header.previous_crc, header.seq) != (
            self.mark.crc,
            self.mark.seq + 1,
        ) or header.incarnation < self.incarnation:
            return None
        if self._verify_above is not None and header.end > self._verify_above:
            found = read_batch(self._info, file, self.index, offset, verify=True)
            if found is None:
                return None
        self.incarnation = header.incarnation
        self.mark = batch.mark
        return batch

    def _enter_next(self, file: File, offset: int) -> bool:
        """Step into the segment that continues this one; False when there is none.

        Its header names the end of what came before, so a footer that was lost is no loss.
        """
        footer = parse_footer(file.pread(FOOTER.size, offset), 0, self._info.log_id, self.index)
        if footer is not None and (footer.position, footer.seq, footer.previous_crc) != self.mark:
            return False
        incarnation = self.incarnation if footer is None else footer.incarnation
        if incarnation < self.incarnation:
            return False
        following = self._lookup(self.index + 1)
        if following is None or following.header is None or following.header.previous != self.mark:
            return False
        self.index += 1
        self.slot = following
        self.incarnation = max(incarnation, following.header.incarnation)
        self.mark = self.mark._replace(position=self.index * self._info.segment_bytes + SEGMENT_HEADER_BYTES)
        return True


class LogReader:
    """Reads a log that another process may be appending to, below a position it was told is durable.

    Changes nothing.
    """

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path
        self.info, _ = load_superblock(disk, path)
        self._slots: dict[int, Slot] = {}
        self._open: dict[int, Slot] = {}

    def _scan(self) -> None:
        """Look at all slots again. Files that held a segment stay open, for an iteration may be reading one; another
        may be the file of a slot that was given up for lack of space, while a new one has its name.
        """
        for number in slot_numbers(self._disk, self._path):
            known = self._open.get(number)
            if known is not None and known.header is not None:
                continue
            with suppress(FileNotFoundError):  # given up just now
                file = self._disk.open(slot_path(self._path, number), read_only=True)
                if known is not None:
                    known.file.close()
                self._open[number] = Slot(number, file, None)
        self._slots = {}
        for slot in self._open.values():
            slot.header = read_header(self.info, slot.file)
            if slot.header is not None:
                self._slots[slot.header.segment_index] = slot

    def _lookup(self, index: int) -> Slot | None:
        if index not in self._slots:
            self._scan()
        return self._slots.get(index)

    def _holds(self, slot: Slot, index: int) -> bool:
        """Does the slot still hold segment `index`? The header changes before anything else when a slot is reused."""
        header = read_header(self.info, slot.file)
        return header is not None and header.segment_index == index

    def _fail(self, position: int) -> DamagedData | LogRangeGone:
        """Why reading at `position` failed: released meanwhile, or damaged."""
        index = position // self.info.segment_bytes
        slot = self._slots.get(index)
        if slot is None or not self._holds(slot, index):
            self._slots.pop(index, None)
            return LogRangeGone(f"log position {position} was released")
        return damaged(position, "the stored bytes fail their checksum")

    def batches(self, start: LogMark, end: int) -> Iterator[LogBatch]:
        """All batches from `start` up to `end`, which must be durable. Raises LogRangeGone or LogDamaged.

        WRITE payloads are not looked at here: `read` checks them.
        """
        cursor = Cursor(self.info, self._lookup, start, verify_above=None)
        while cursor.mark.position < end:
            batch = cursor.next()
            if batch is None and cursor.mark.position < end:
                raise self._fail(cursor.mark.position)
            if batch is None or batch.end > end:
                return  # only the step into a fresh segment lay between the last batch and `end`
            yield batch

    def chain(self, start: LogMark) -> Iterator[LogBatch]:
        """All batches from `start` to where the chain ends at this moment, durable or not. Damage, and a segment that
        was released, look like its end.
        """
        cursor = Cursor(self.info, self._lookup, start, verify_above=None)
        while (batch := cursor.next()) is not None:
            yield batch

    def read(self, position: int, length: int, crcs: Sequence[int]) -> bytes:
        """`length` payload bytes at `position`, every block checked against `crcs`. Raises LogRangeGone or LogDamaged.

        A slot used again during the read shows as a checksum that fails, so only then the header is looked at again.
        """
        index, offset = divmod(position, self.info.segment_bytes)
        slot = self._slots.get(index) or self._lookup(index)
        if slot is None:
            raise LogRangeGone(f"log position {position} was released")
        data = slot.file.pread(length, offset)
        if len(data) != length or not blocks_hold(data, crcs):
            raise self._fail(position)
        return data

    def fill(self, position: int, target: memoryview) -> None:
        """The stored bytes at `position`, within one segment, into all of `target`; nothing is checked.

        Raises LogRangeGone or LogDamaged.
        """
        index, offset = divmod(position, self.info.segment_bytes)
        slot = self._slots.get(index) or self._lookup(index)
        if slot is None:
            raise LogRangeGone(f"log position {position} was released")
        if slot.file.preadv([target], offset) != len(target):
            raise self._fail(position)

    def close(self) -> None:
        for slot in self._open.values():
            slot.file.close()
        self._open = {}
        self._slots = {}
