# SPDX-License-Identifier: Apache-2.0
"""A store that was taken for dead comes back in the middle of a window: it writes to no region of its successor's."""

from __future__ import annotations

from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from crc32c import crc32c

from stargate.catalog.state import BatchRef
from stargate.fs.disk import Disk, OsDisk
from stargate.fs.memdisk import MemDisk
from stargate.hot.format import Block
from stargate.hot.regions import HotReader, HotWriter, read_batch_table
from stargate.units import BLOCK_BYTES

EPOCH = str(UUID(int=5))
REGION_BYTES = 128 * 1024


@pytest.fixture(params=["files", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return OsDisk(tmp_path) if request.param == "files" else MemDisk()


def _store(disk: Disk, live: list[BatchRef]) -> HotWriter:
    return HotWriter.open(disk, "hot", live=live, region_bytes=REGION_BYTES, readers=True)


def _blocks(rng: Random, count: int) -> list[Block]:
    datas = ((number, rng.randbytes(BLOCK_BYTES)) for number in rng.sample(range(10_000), count))
    return [(number, 1000 + number, crc32c(data), data) for number, data in datas]


def _append(writer: HotWriter, blocks: list[Block]) -> list[BatchRef]:
    return writer.append(EPOCH, 10, 20, [], [], blocks)


def _window(writer: HotWriter, blocks: list[Block]) -> list[BatchRef]:
    writer.begin()
    refs = _append(writer, blocks)
    writer.sync()
    return refs


def _read(disk: Disk, refs: list[BatchRef]) -> list[tuple[int, bytes]]:
    reader = HotReader(disk, "hot")
    found: list[tuple[int, bytes]] = []
    for ref in refs:
        table = read_batch_table(disk, "hot", ref)
        columns = (table.blocks.tolist(), table.crcs.tolist(), table.positions.tolist())
        found += [(block, reader.read(at, BLOCK_BYTES, (crc,))) for block, crc, at in zip(*columns, strict=True)]
    reader.close()
    return sorted(found)


def _plain(blocks: list[Block]) -> list[tuple[int, bytes]]:
    return sorted((number, bytes(data)) for number, _, _, data in blocks)


def test_what_both_write_in_turns_lies_in_different_regions(disk: Disk) -> None:
    """Windows of many sizes, so that either begins regions while the other is at work."""
    rng = Random(1)
    old = _store(disk, [])
    before = _blocks(rng, 20)
    live = _window(old, before)
    old.begin()
    new = _store(disk, live)
    mine: list[tuple[list[Block], list[BatchRef]]] = []
    strays: set[int] = set()
    for _ in range(12):
        blocks = _blocks(rng, rng.randint(1, 40))
        mine.append((blocks, _window(new, blocks)))
        strays.update(ref.region for ref in _append(old, _blocks(rng, rng.randint(1, 40))))
        old.sync()
    assert len(strays) > 3, "the old one began regions, too"
    assert not strays.intersection(ref.region for _, refs in mine for ref in refs)
    assert _read(disk, live) == _plain(before)
    for blocks, refs in mine:
        assert _read(disk, refs) == _plain(blocks)
    old.close()
    new.close()


def test_a_region_that_was_freed_is_begun_anew_by_one_of_the_two_only(disk: Disk) -> None:
    rng = Random(2)
    old = _store(disk, [])
    first = _window(old, _blocks(rng, 60))
    old.begin()
    regions = {ref.region for ref in first}
    new = _store(disk, first)
    assert not any(new.free(region) for region in regions), "the old one may be writing there"
    assert all(old.free(region) for region in regions.intersection(old.regions()))
    blocks = _blocks(rng, 60)
    refs = _window(new, blocks)
    strays = _window(old, _blocks(rng, 60))
    assert not {ref.region for ref in refs}.intersection(ref.region for ref in strays)
    assert _read(disk, refs) == _plain(blocks)
    old.close()
    assert all(new.free(region) for region in regions), "the old one is gone"
    again = _blocks(rng, 60)
    later = _window(new, again)
    assert regions.intersection(ref.region for ref in later)
    assert _read(disk, later) == _plain(again)
    assert _read(disk, refs) == _plain(blocks)
    new.close()


def test_the_regions_of_a_store_that_ended_are_used_by_the_next(disk: Disk) -> None:
    rng = Random(3)
    live: list[BatchRef] = []
    for _ in range(3):
        writer = _store(disk, live)
        live += _window(writer, _blocks(rng, 3))
        writer.close()
    assert {ref.region for ref in live} == {1}
