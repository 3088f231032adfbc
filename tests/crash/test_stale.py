# SPDX-License-Identifier: Apache-2.0
"""Scripted histories for rules that chance hardly ever meets: what is old must not come back."""

from __future__ import annotations

import uuid
from random import Random

import pytest

from stargate.errors import StaleToken
from stargate.extents.index import MemoryIndex
from stargate.extents.store import ExtentStore
from stargate.fs.memdisk import MemDisk
from stargate.fs.survival import Way
from stargate.oplog.format import WRITE, Append, first_mark
from stargate.oplog.log import OpLog
from stargate.store.hub import CatalogHub
from stargate.units import BLOCK_BYTES, CHUNK_BYTES, KiB
from tests.engine.harness import Site, commit

LOG_ID = b"l" * 16


def _write(block: int, fill: bytes) -> Append:
    return Append(WRITE, 1, block * BLOCK_BYTES, fill * BLOCK_BYTES, BLOCK_BYTES)


def _open(disk: MemDisk) -> OpLog:
    return OpLog.open(disk, "oplog", covered=first_mark(LOG_ID))


def test_a_repeated_write_does_not_bring_back_what_followed_it_before_the_crash() -> None:
    """The guest repeats its write after the crash, with the same bytes at the same place of the log. What it wrote
    after that one, and lost, must stay lost: older than what other clients were shown since."""
    disk = MemDisk()
    log = OpLog.create(disk, "oplog", log_id=LOG_ID, segment_bytes=64 * KiB, cap_bytes=256 * KiB)
    log.append([_write(0, b"a")])
    start = log.appended.position
    log.append([_write(1, b"b")])
    disk.flip("oplog/slot-0000", start - 10)  # the first batch did not reach the disk, the second one did
    log.close()
    log = _open(disk)
    assert list(log.recovered) == []
    log.append([_write(0, b"a")])
    log.close()
    log = _open(disk)
    assert [batch.records[0].offset for batch in log.recovered] == [0]


def _drainable() -> Site:
    site = Site(Random(1))
    site.start()
    assert site.front is not None
    name = str(uuid.UUID(int=1))
    site.front.orders.do_vdisk_create(name, 64 * KiB, name, "active", None, None)
    site.front.exports.lookup(name).write(0, memoryview(b"x" * BLOCK_BYTES))
    commit(site.front.exports)
    site.sync()
    return site


def test_a_window_is_not_published_twice() -> None:
    """Two drains of one range: the second one finds that the catalog has moved on."""
    site = _drainable()
    assert site.store is not None
    worker, hub = site.store.worker, site.store.hub
    worker._drain_turn()
    before = worker._covered()
    assert site.drain()
    moved = hub.state.covered
    assert not worker._drain_window(before)
    assert hub.state.covered == moved
    assert sum(len(epoch.batches) for epoch in hub.state.epochs.values()) == 1


def test_a_store_that_was_taken_over_commits_nothing() -> None:
    """Its lock was removed by hand; the new store's catalog must not get frames of the old one."""
    site = _drainable()
    assert site.store is not None
    old = site.store.hub
    site.disk.release_locks("catalog")
    new = CatalogHub(site.disk)
    size = len(site.disk.snapshot()["catalog/gen-00000001"])
    with pytest.raises(StaleToken):
        old.commit({"op": "sweep", "sweep": 7})
    assert len(site.disk.snapshot()["catalog/gen-00000001"]) == size
    new.close()


def test_a_rebuilt_index_names_no_bytes_that_a_power_cut_may_take() -> None:
    """A killed store left bytes in the page cache; the next one has to make its index from what it can read."""
    disk = MemDisk()
    store = ExtentStore(disk, MemoryIndex(), writable=True)
    store.put_chunk(b"1" * CHUNK_BYTES)
    store.flush()
    lost = store.put_chunk(b"2" * CHUNK_BYTES)
    store.read_chunk(lost)  # has it written, not synced
    store.close()
    index = MemoryIndex()
    ExtentStore(disk, index, writable=True).close()
    after = ExtentStore(disk.crash(Random(1), Way.NONE), index, writable=True)
    assert index.get(lost) is not None
    for digest, _ in index.items():
        after.verify(digest)
