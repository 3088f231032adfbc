# SPDX-License-Identifier: Apache-2.0
"""Bytes of the log: superblock, segment header, batch, footer. Pure: no file is touched here.

All integers are little endian. Every checksum of a segment's units is seeded with `segment_seed`, so bytes that an
earlier use of the
slot left behind can never be taken for this segment's. See docs/formats/oplog.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from crc32c import crc32c

from stargate.errors import LogDamaged, OperatorError
from stargate.fs.disk import Buffer
from stargate.units import BLOCK_BYTES, MiB

VERSION = 1

SUPERBLOCK_MAGIC = b"PRISMLOG"
SEGMENT_MAGIC = b"PRISMSEG"
BATCH_MAGIC = b"\xf1OB1"
FOOTER_MAGIC = b"\xf1OF1"

SUPERBLOCK = struct.Struct("<8sHHI16sQQQI")
SEGMENT = struct.Struct("<8sHHI16sQQQQQII")
BATCH = struct.Struct("<4sHHQQQIIQQII")
BATCH_BODY = struct.Struct("<4sHHQQQIIQQI")
FOOTER = struct.Struct("<4sHHQQQQII")
RECORD = struct.Struct("<BBHIQQ")
RECORD_ONE_BLOCK = struct.Struct("<BBHIQQI")
CRC = struct.Struct("<I")
_SEED = struct.Struct("<16sQQ")

SUPERBLOCK_SLOT_BYTES = 4096
"""Each of the two superblock copies has a page of its own, so that writing one can never tear the other."""
SEGMENT_HEADER_BYTES = 4096
"""Where the first batch of a segment starts."""
SEGMENT_BYTES_MIN = 16 * 1024
SEGMENT_BYTES_MAX = 1024 * MiB

WRITE = 1
ZERO = 2
CONTROL = 3

WRITE_BLOCKS_MAX = 8192
CONTROL_BYTES_MAX = 4 * MiB

LAYOUTS: dict[str, tuple[struct.Struct, tuple[str, ...]]] = {
    "superblock": (
        SUPERBLOCK,
        ("magic", "version", "reserved", "reserved", "log id", "segment bytes", "cap bytes", "incarnation", "crc"),
    ),
    "segment header": (
        SEGMENT,
        (
            "magic", "version", "reserved", "reserved", "log id", "segment index", "segment bytes", "incarnation",
            "previous position", "previous seq", "previous crc", "crc",
        ),
    ),
    "batch header": (
        BATCH,
        (
            "magic", "version", "header bytes", "incarnation", "seq", "position", "record count", "table bytes",
            "payload bytes", "durable", "previous crc", "crc",
        ),
    ),
    "record": (RECORD, ("type", "flags", "reserved", "handle", "offset", "length")),
    "footer": (
        FOOTER,
        ("magic", "version", "reserved", "incarnation", "seq", "position", "durable", "previous crc", "crc"),
    ),
}  # fmt: skip
"""Structure -> (struct, field names): what the page docs/formats/oplog.md is checked against."""


class LogMark(NamedTuple):
    """A place in the log: `position` is the end of the batch with number `seq` and checksum `crc`."""

    position: int
    seq: int
    crc: int


class LogRecord(NamedTuple):
    """One record. `offset` and `length` are bytes of the vDisk; `position` is that of the payload, of the batch for
    ZERO.

    `crcs` has one crc32c per 4-KiB block of a WRITE, one for a CONTROL. `payload` is None except for CONTROL.
    """

    type: int
    handle: int
    offset: int
    length: int
    position: int
    crcs: Sequence[int]
    payload: bytes | None


class Append(NamedTuple):
    """What to append.

    `data`: WRITE whole 4-KiB blocks, CONTROL UTF-8 JSON, ZERO None; `length` is that of the data or interval.
    """

    type: int
    handle: int
    offset: int
    data: Buffer | None
    length: int


class Appended(NamedTuple):
    """Where an item went: position of its payload (of its batch for ZERO) and the checksum of each of its blocks."""

    position: int
    crcs: Sequence[int]


class LogBatch(NamedTuple):
    """One batch: `position` up to `end`; `durable` is the position the writer knew to be durable when it appended
    this.
    """

    seq: int
    position: int
    end: int
    crc: int
    durable: int
    records: list[LogRecord]

    @property
    def mark(self) -> LogMark:
        return LogMark(self.end, self.seq, self.crc)


class Superblock(NamedTuple):
    """Identity of a log. `incarnation` counts the starts of its writer."""

    log_id: bytes
    segment_bytes: int
    cap_bytes: int
    incarnation: int

    def pack(self) -> bytes:
        body = SUPERBLOCK.pack(
            SUPERBLOCK_MAGIC, VERSION, 0, 0, self.log_id, self.segment_bytes, self.cap_bytes, self.incarnation, 0
        )
        return _close(body, 0)


class SegmentHeader(NamedTuple):
    """What a slot holds, since which start of the writer; `previous` is the last batch before it."""

    segment_index: int
    incarnation: int
    previous: LogMark


class BatchHeader(NamedTuple):
    """A batch header whose own checksum held.

    It is part of the log only if `previous_crc` and `seq` continue the chain.
    """

    incarnation: int
    seq: int
    position: int
    record_count: int
    table_bytes: int
    payload_bytes: int
    durable: int
    previous_crc: int
    crc: int

    @property
    def end(self) -> int:
        return self.position + BATCH.size + self.table_bytes + self.payload_bytes


class Footer(NamedTuple):
    """The end of a sealed segment."""

    incarnation: int
    seq: int
    position: int
    durable: int
    previous_crc: int


def damaged(position: int, reason: str) -> LogDamaged:
    return LogDamaged(
        f"the log is damaged at position {position}: {reason}; nothing was changed; restore from the peer or a copy",
        detail=str(position),
    )


def first_mark(log_id: bytes) -> LogMark:
    """The mark of a log without any batch."""
    return LogMark(SEGMENT_HEADER_BYTES, 0, crc32c(log_id))


def segment_seed(log_id: bytes, incarnation: int, index: int) -> int:
    """The start value of every batch's checksum in segment `index` written by this incarnation."""
    return crc32c(_SEED.pack(log_id, incarnation, index))


def _close(body: bytes, seed: int) -> bytes:
    """`body` with its last four bytes replaced by the checksum of all before."""
    return body[:-4] + CRC.pack(crc32c(body[:-4], seed))


def _holds(raw: bytes, seed: int) -> bool:
    return CRC.pack(crc32c(raw[:-4], seed)) == raw[-4:]


def parse_superblock(raw: bytes) -> Superblock | None:
    """None when the copy is torn or damaged. Raises OperatorError when a newer engine wrote it."""
    if len(raw) < SUPERBLOCK.size:
        return None
    magic, version, _, _, log_id, segment_bytes, cap_bytes, incarnation, _ = SUPERBLOCK.unpack_from(raw)
    if magic != SUPERBLOCK_MAGIC or not _holds(raw[: SUPERBLOCK.size], 0):
        return None
    if version != VERSION:
        raise OperatorError(
            f"the log has format {version}, this engine knows {VERSION}; start the engine that wrote it"
        )
    if not SEGMENT_BYTES_MIN <= segment_bytes <= SEGMENT_BYTES_MAX:
        return None
    return Superblock(log_id, segment_bytes, cap_bytes, incarnation)


def pack_segment(info: Superblock, header: SegmentHeader) -> bytes:
    body = SEGMENT.pack(
        SEGMENT_MAGIC,
        VERSION,
        0,
        0,
        info.log_id,
        header.segment_index,
        info.segment_bytes,
        header.incarnation,
        *header.previous,
        0,
    )
    return _close(body, 0)


def parse_segment(info: Superblock, raw: bytes) -> SegmentHeader | None:
    """None when the slot holds no segment of this log (zeros, torn, foreign)."""
    if len(raw) < SEGMENT.size or not _holds(raw[: SEGMENT.size], 0):
        return None
    magic, version, _, _, log_id, index, size, incarnation, position, seq, crc, _ = SEGMENT.unpack_from(raw)
    if magic != SEGMENT_MAGIC or version != VERSION or log_id != info.log_id or size != info.segment_bytes:
        return None
    return SegmentHeader(index, incarnation, LogMark(position, seq, crc))


def parse_batch_header(raw: bytes, offset: int, room: int) -> BatchHeader | None:
    """The header at `offset` of `raw` before its checksum is looked at; None unless its lengths fit into `room`
    bytes.
    """
    if len(raw) < offset + BATCH.size:
        return None
    magic, version, size, incarnation, seq, position, count, table, payload, durable, previous, crc = BATCH.unpack_from(
        raw, offset
    )
    if magic != BATCH_MAGIC or version != VERSION or size != BATCH.size:
        return None
    if BATCH.size + table + payload > room or count * RECORD.size > table:
        return None
    return BatchHeader(incarnation, seq, position, count, table, payload, durable, previous, crc)


def batch_holds(header: BatchHeader, raw: bytes, log_id: bytes, index: int) -> bool:
    """Is `raw` (header and table) what the writer of segment `index` of this log wrote?"""
    seed = segment_seed(log_id, header.incarnation, index)
    return crc32c(raw[BATCH.size :], crc32c(raw[: BATCH_BODY.size], seed)) == header.crc


def pack_footer(footer: Footer, seed: int) -> bytes:
    incarnation, seq, position, durable, previous = footer
    body = FOOTER.pack(FOOTER_MAGIC, VERSION, 0, incarnation, seq, position, durable, previous, 0)
    return _close(body, seed)


def parse_footer(raw: bytes, offset: int, log_id: bytes, index: int) -> Footer | None:
    """The footer of segment `index` at `offset` of `raw`; None when there is none or its checksum fails."""
    if len(raw) < offset + FOOTER.size:
        return None
    magic, version, _, incarnation, seq, position, durable, previous, _ = FOOTER.unpack_from(raw, offset)
    if magic != FOOTER_MAGIC or version != VERSION:
        return None
    if not _holds(raw[offset : offset + FOOTER.size], segment_seed(log_id, incarnation, index)):
        return None
    return Footer(incarnation, seq, position, durable, previous)


def parse_table(header: BatchHeader, table: bytes) -> list[LogRecord] | None:
    """The records of a checked batch (CONTROL still without payload); None when the table makes no sense."""
    records: list[LogRecord] = []
    at = 0
    position = header.position + BATCH.size + header.table_bytes
    end = position + header.payload_bytes
    for _ in range(header.record_count):
        if at + RECORD.size > len(table):
            return None
        kind, _, _, handle, offset, length = RECORD.unpack_from(table, at)
        at += RECORD.size
        if length == BLOCK_BYTES and kind == WRITE and at + CRC.size <= len(table):  # most of a busy log
            records.append(LogRecord(kind, handle, offset, length, position, CRC.unpack_from(table, at), None))
            at += CRC.size
            position += length
            continue
        count = crc_count(kind, length)
        if count is None or at + 4 * count > len(table):
            return None
        if kind == ZERO:
            records.append(LogRecord(kind, handle, offset, length, header.position, (), None))
            continue
        crcs = struct.unpack_from(f"<{count}I", table, at)
        at += 4 * count
        records.append(LogRecord(kind, handle, offset, length, position, crcs, None))
        position += length
    return records if at == len(table) and position == end else None


def crc_count(kind: int, length: int) -> int | None:
    """How many checksums follow a record in the table; None when no record of that kind may have that length."""
    if kind == WRITE:
        blocks, rest = divmod(length, BLOCK_BYTES)
        return blocks if rest == 0 and 1 <= blocks <= WRITE_BLOCKS_MAX else None
    if kind == ZERO:
        return 0
    if kind == CONTROL:
        return 1 if 1 <= length <= CONTROL_BYTES_MAX else None
    return None
