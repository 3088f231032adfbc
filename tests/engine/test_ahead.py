# SPDX-License-Identifier: Apache-2.0
"""Which chunks leave before their snapshot is folded: whole ones of the named disks, older than the marker."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable

from stargate.extents.format import chunk_hash
from stargate.store.ahead import Windows
from stargate.units import CHUNK_BYTES
from tests.engine.harness import Site, commit

Chunk = tuple[bytes, int]


def started(seed: int) -> Site:
    print(f"seed {seed}")
    site = Site(random.Random(seed))
    site.start()
    return site


def made(site: Site) -> str:
    assert site.front is not None
    disk = str(uuid.uuid4())
    site.front.orders.do_vdisk_create(disk, 16 * CHUNK_BYTES, disk, "active", None, None)
    return disk


def written(site: Site, disk: str, chunk: int) -> Chunk:
    """A whole chunk of noise, durable in the log; its name and size."""
    assert site.front is not None
    data = site.rng.randbytes(CHUNK_BYTES)
    site.front.exports.lookup(disk).write(chunk * CHUNK_BYTES, memoryview(data))
    commit(site.front.exports)
    site.sync()
    return chunk_hash(data), CHUNK_BYTES


def windows(site: Site, snapshot: str, *disks: str) -> Windows:
    assert site.store is not None
    return Windows(site.store.hub, site._table, snapshot, disks)


def collected(found: Windows, steps: list[Callable[[], object]]) -> list[Chunk]:
    """All of it, while one step after the other is done as soon as nothing new is there."""
    chunks: list[Chunk] = []
    batches = iter(found)
    while True:
        if not found._look() and not found._ended():
            steps.pop(0)()
            continue
        batch = next(batches, None)
        if batch is None:
            return chunks
        chunks += batch


def test_it_takes_each_drained_chunk_of_the_named_disks_once() -> None:
    site = started(3)
    mine, other = made(site), made(site)
    early = [written(site, mine, 1)]
    site.drain()
    found = windows(site, str(uuid.uuid4()), mine)
    late: list[Chunk] = []

    def more() -> None:
        written(site, other, 2)
        late.append(written(site, mine, 3))
        site.drain()

    assert collected(found, [more, found.stop]) == early + late


def test_it_takes_a_place_that_is_written_again_only_once() -> None:
    site = started(4)
    disk = made(site)
    first = written(site, disk, 1)
    site.drain()
    found = windows(site, str(uuid.uuid4()), disk)

    def again() -> None:
        written(site, disk, 1)
        site.drain()

    assert collected(found, [again, found.stop]) == [first]


def test_it_takes_nothing_that_was_written_after_the_marker() -> None:
    site = started(5)
    assert site.front is not None
    disk, snapshot = made(site), str(uuid.uuid4())
    before = written(site, disk, 1)
    site.front.orders.do_snapshot_create(snapshot, [disk], {}, "", None)
    site.sync()
    marker = site.front.engine.log.durable.position
    written(site, disk, 2)
    found = windows(site, snapshot, disk)
    assert collected(found, [lambda: site.drain(marker), site.drain, site.fold]) == [before]


def test_it_ends_when_the_snapshot_has_its_trees() -> None:
    site = started(6)
    assert site.front is not None
    disk, snapshot = made(site), str(uuid.uuid4())
    written(site, disk, 1)
    site.front.orders.do_snapshot_create(snapshot, [disk], {}, "", None)
    site.sync()
    while site.drain():
        continue
    assert site.fold()
    assert list(windows(site, snapshot, disk)) == []
