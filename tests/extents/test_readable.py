# SPDX-License-Identifier: Apache-2.0
"""Readable is not durable: what a killed process wrote may be in memory only. The index must not be ahead of it, for
a deduplication hit on what a power cut takes would lose what was drained."""

from __future__ import annotations

from random import Random

from stargate.extents import rebuild
from stargate.extents.index import MemoryIndex
from stargate.extents.store import ExtentStore
from stargate.fs.memdisk import MemDisk
from stargate.fs.survival import Way
from tests.extents.helpers import CHUNK, noise


def opened(disk: MemDisk, index: MemoryIndex) -> ExtentStore:
    """As by a process whose forerunner was killed."""
    disk._locked.clear()
    return ExtentStore(disk, index, writable=True)


def written(disk: MemDisk, index: MemoryIndex, *, first: int = 0) -> bytes:
    """A chunk that a process wrote and did not come to make durable; it flushed `first` others."""
    store = opened(disk, index)
    for seed in range(first):
        store.put_chunk(noise(seed, CHUNK))
    if first:
        store.flush()
    digest = store.put_chunk(noise(99, CHUNK))
    store.appender.spill()
    return digest


def test_what_a_rebuild_enters_outlives_a_power_cut() -> None:
    disk = MemDisk()
    digest = written(disk, MemoryIndex())
    index = MemoryIndex()
    opened(disk, index)
    assert index.get(digest) is not None
    after = disk.crash(Random(1), Way.NONE)
    assert opened(after, index).read_chunk(digest) == noise(99, CHUNK)


def test_what_healing_finds_outlives_a_power_cut() -> None:
    disk, index = MemDisk(), MemoryIndex()
    digest = written(disk, index, first=2)
    store = opened(disk, index)
    assert rebuild.find(store.files, index, store.store_id, {digest}, 0) == {digest}
    after = disk.crash(Random(1), Way.NONE)
    assert opened(after, index).read_chunk(digest) == noise(99, CHUNK)
