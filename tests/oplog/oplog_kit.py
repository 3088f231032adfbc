# SPDX-License-Identifier: Apache-2.0
"""What the log's tests share: small logs in memory, random items, and reading back what a log holds."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from stargate.fs.disk import Disk
from stargate.oplog import CONTROL, WRITE, ZERO, Append, LogMark, LogReader, OpLog
from stargate.oplog.format import first_mark

LOG_ID = bytes(range(16))
SEGMENT_BYTES = 32 * 1024
FIRST = first_mark(LOG_ID)


class Seen(NamedTuple):
    """One record with its bytes, wherever it came from."""

    type: int
    handle: int
    offset: int
    length: int
    data: bytes


def make_log(disk: Disk, *, cap_bytes: int = 64 * SEGMENT_BYTES, segment_bytes: int = SEGMENT_BYTES) -> OpLog:
    return OpLog.create(disk, "oplog", log_id=LOG_ID, segment_bytes=segment_bytes, cap_bytes=cap_bytes)


def write(block: int, fill: int, blocks: int = 1) -> Append:
    data = bytes([fill % 256]) * (4096 * blocks)
    return Append(WRITE, 7, block * 4096, data, len(data))


def random_items(rng: Random) -> list[Append]:
    items = []
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice([WRITE, WRITE, ZERO, CONTROL])
        if kind == WRITE:
            data = rng.randbytes(4096 * rng.choice([1, 1, 2]))
            items.append(Append(WRITE, rng.randrange(3), 4096 * rng.randrange(99), memoryview(data), len(data)))
        elif kind == ZERO:
            items.append(Append(ZERO, 1, 4096 * rng.randrange(99), None, 4096 * rng.randint(1, 1 << 30)))
        else:
            text = b'{"op":"%d"}' % rng.randrange(1000)
            items.append(Append(CONTROL, 0, 0, text, len(text)))
    return items


def as_seen(items: list[Append]) -> list[Seen]:
    return [Seen(i.type, i.handle, i.offset, i.length, bytes(i.data or b"")) for i in items]


def read_back(disk: Disk, end: int, start: LogMark = FIRST) -> list[list[Seen]]:
    """Batches from `start` to `end` with verified payloads."""
    reader = LogReader(disk, "oplog")
    found = []
    for batch in reader.batches(start, end):
        seen = []
        for record in batch.records:
            data = record.payload or b""
            if record.type == WRITE:
                data = reader.read(record.position, record.length, record.crcs)
            seen.append(Seen(record.type, record.handle, record.offset, record.length, data))
        found.append(seen)
    reader.close()
    return found
