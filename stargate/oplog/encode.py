# SPDX-License-Identifier: Apache-2.0
"""From what the front wants to append to the bytes of a batch. Pure, and the hot path of every guest write."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from crc32c import crc32c

from stargate.checksum import block_crcs
from stargate.errors import InvalidArgument
from stargate.fs.disk import Buffer
from stargate.oplog.format import BATCH, RECORD, RECORD_ONE_BLOCK, WRITE, ZERO, Append, Appended, crc_count
from stargate.units import BLOCK_BYTES

__all__ = ["Append", "Appended", "Encoded", "SegmentFull", "encode", "split"]


_new_tuple = tuple.__new__  # a NamedTuple's own is a Python function


class SegmentFull(Exception):
    """`OpLog.append` would have to wait for the disk. Nobody outside the front sees this."""


class Encoded(NamedTuple):
    """A batch before it has a place. `starts`: payload offset of each item, -1 for ZERO."""

    table: bytes
    buffers: list[Buffer]
    payload_bytes: int
    starts: list[int]
    crcs: list[Sequence[int]]

    @property
    def size(self) -> int:
        return BATCH.size + len(self.table) + self.payload_bytes


def encode(items: Sequence[Append]) -> Encoded:
    """Table and buffers of one batch. Raises InvalidArgument for an item no log may hold.

    Hot: one-block writes take the short way.
    """
    parts: list[bytes] = []
    buffers: list[Buffer] = []
    starts: list[int] = []
    all_crcs: list[Sequence[int]] = []
    payload = 0
    pack, checksum = RECORD_ONE_BLOCK.pack, crc32c
    for kind, handle, offset, data, length in items:
        if length == BLOCK_BYTES and kind == WRITE and data is not None and len(data) == length and not offset & 4095:
            crc = checksum(data)
            parts.append(pack(WRITE, 0, 0, handle, offset, length, crc))
            all_crcs.append((crc,))
        else:
            crcs = _checked_crcs(kind, offset, data, length)
            parts.append(RECORD.pack(kind, 0, 0, handle, offset, length) + struct.pack(f"<{len(crcs)}I", *crcs))
            all_crcs.append(crcs)
            if data is None:
                starts.append(-1)
                continue
        starts.append(payload)
        buffers.append(data)
        payload += length
    return _new_tuple(Encoded, (b"".join(parts), buffers, payload, starts, all_crcs))


def _checked_crcs(kind: int, offset: int, data: Buffer | None, length: int) -> Sequence[int]:
    count = crc_count(kind, length)
    if count is None or (data is None) != (kind == ZERO) or (data is not None and len(data) != length):
        raise InvalidArgument(f"no log record of type {kind} has {length} bytes")
    if data is None or kind == WRITE:
        if (offset | length) % BLOCK_BYTES:
            raise InvalidArgument(f"offset {offset}, length {length}: not aligned to {BLOCK_BYTES} bytes")
        return block_crcs(data or b"")
    return (crc32c(data),)


def split(items: Sequence[Append], room: int) -> list[Encoded]:
    """Batches of at most `room` bytes. An item is never split; the default segment has room for the largest."""
    batches: list[Encoded] = []
    group: list[Append] = []
    size = BATCH.size
    for item in items:
        alone = encode([item]).size - BATCH.size
        if BATCH.size + alone > room:
            raise InvalidArgument(f"a record of {item.length} bytes does not fit into a segment of this log")
        if group and size + alone > room:
            batches.append(encode(group))
            group, size = [], BATCH.size
        group.append(item)
        size += alone
    batches.append(encode(group))
    return batches
