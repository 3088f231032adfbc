# SPDX-License-Identifier: Apache-2.0
"""A file whose maker ended before its name was durable: whoever goes on with it makes the name durable first."""

from __future__ import annotations

import copy
import errno
import threading
from collections.abc import Iterator
from random import Random

import pytest

from stargate.catalog.log import CatalogLog
from stargate.errors import StargateError
from stargate.extents.index import MemoryIndex
from stargate.extents.store import ExtentStore
from stargate.fs.memdisk import MemDisk
from stargate.oplog.format import WRITE, Append, first_mark
from stargate.oplog.log import OpLog
from stargate.units import BLOCK_BYTES, KiB

SEGMENT_BYTES = 16 * KiB
CRASHES = 40


class NamesFail(MemDisk):
    """A disk that does not get names durable while told so."""

    failing = False

    def sync_dir(self, path: str) -> None:
        if self.failing:
            raise OSError(errno.EIO, "names", path)
        super().sync_dir(path)


def crashes(disk: MemDisk) -> Iterator[MemDisk]:
    return (disk.crash(Random(seed)) for seed in range(CRASHES))


def test_it_keeps_chunks_put_into_an_extent_group_that_an_earlier_store_began() -> None:
    disk, index = NamesFail(), MemoryIndex()
    first = ExtentStore(disk, index, writable=True)
    first.put_chunk(b"a" * BLOCK_BYTES)
    disk.failing = True
    with pytest.raises(StargateError):
        first.flush()
    first.close()
    disk.failing = False

    second = ExtentStore(disk, index, writable=True)
    digest = second.put_chunk(b"b" * BLOCK_BYTES)
    second.flush()
    second.close()
    for after in crashes(disk):
        assert ExtentStore(after, index, writable=False).read_chunk(digest) == b"b" * BLOCK_BYTES


def test_it_keeps_writes_in_a_log_segment_that_an_earlier_front_made() -> None:
    disk = NamesFail()
    log_id = b"log of this test"
    log = OpLog.create(disk, "oplog", log_id=log_id, segment_bytes=SEGMENT_BYTES, cap_bytes=8 * SEGMENT_BYTES)
    disk.failing = True
    with pytest.raises(StargateError):
        log.prepare()
    log.close()
    disk.failing = False

    log = OpLog.open(disk, "oplog", covered=first_mark(log_id))
    for number in range(4):
        log.append([Append(WRITE, 1, 0, bytes([number]) * BLOCK_BYTES, BLOCK_BYTES)])
    log.sync()
    assert log.appended.position > SEGMENT_BYTES, "it has rolled into the second segment"
    log.close()
    for after in crashes(disk):
        found = OpLog.open(after, "oplog", covered=first_mark(log_id))
        assert sum(len(batch.records) for batch in found.recovered) == 4


def test_it_removes_no_older_catalog_before_the_newer_ones_name_is_durable() -> None:
    disk = NamesFail()
    catalog = CatalogLog.open(disk, "catalog")[0]
    catalog.append([{"op": 1}])
    disk.failing = True
    with pytest.raises(StargateError):
        catalog.checkpoint({"state": 1})
    catalog.close()
    disk.failing = False

    calls = 0
    while True:  # the power goes before each call of the start
        calls += 1
        attempt = copy_of(disk)
        attempt.fail_at = calls
        try:
            CatalogLog.open(attempt, "catalog")[0].close()
        except (OSError, StargateError):
            for after in crashes(attempt):
                log, state, ops = CatalogLog.open(after, "catalog", known_seq=1)
                assert (state, ops) in ((None, [{"op": 1}]), ({"state": 1}, [])), f"call {calls}"
                log.close()
            continue
        assert calls > 5
        return


def copy_of(disk: MemDisk) -> MemDisk:
    """The same disk at the same moment."""
    guard, disk._guard = disk._guard, None  # type: ignore[assignment]
    locked, disk._locked = disk._locked, set()
    try:
        after = copy.deepcopy(disk)
    finally:
        disk._guard, disk._locked = guard, locked
    after._guard = threading.RLock()
    return after
