# SPDX-License-Identifier: Apache-2.0
"""LAW 4: what cannot be read is kept as damage, never laundered, and stops nothing but itself."""

from __future__ import annotations

import pytest

from stargate.errors import DamagedData
from stargate.extents.format import Kind, digest_of
from stargate.extents.index import Change
from stargate.units import BLOCK_BYTES, KiB
from tests.engine.harness import Site
from tests.engine.test_damage import place_of
from tests.engine.test_halves import SIZE, create, drained, scatter, snapshot, started, write
from tests.scrub.test_healing import noise, places, rot, shared


def fold_all(site: Site) -> None:
    while site.fold():
        site.settle()


def is_rooted(site: Site, point: str) -> bool:
    assert site.store is not None
    state = site.store.hub.state
    return state.snapshot_state(state.snapshots[point]) == "rooted"


def image(site: Site, name: str, expected: bytes, lost: set[int]) -> None:
    """Every block is the expected one, but those in `lost`, which are refused."""
    blocks = site.blocks(name)
    for number, found in enumerate(blocks):
        wanted = None if number in lost else expected[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
        assert found == wanted, number


@pytest.mark.parametrize("offset", [0, 64 * KiB + 5 * BLOCK_BYTES])
def test_a_rotten_block_of_the_log_is_drained_as_damage(offset: int) -> None:
    site, name = started()
    other = create(site)
    expected = bytearray(noise(3, SIZE))
    write(site, name, 0, bytes(expected))
    expected[offset : offset + 4096] = b"rots" * 1024
    write(site, name, offset, b"rots" * 1024)
    write(site, other, 0, noise(4, SIZE))
    path, at = place_of(site, b"rotsrots", "oplog")
    site.disk.flip(path, at)
    point = snapshot(site, name, other)
    drained(site)
    assert site.front is not None
    assert site.store is not None
    assert site.store.hub.state.covered.position == site.front.engine.log.durable.position
    lost = {offset // BLOCK_BYTES}
    image(site, name, bytes(expected), lost)
    fold_all(site)
    assert site.content(other) == noise(4, SIZE)
    assert not is_rooted(site, point), "one of its disks holds damage"
    assert len(site.store.worker.poisoned()) == 1
    image(site, f"snapshot:{point}:{name}", bytes(expected), lost)
    write(site, name, offset, b"anew" * 1024)
    expected[offset : offset + 4096] = b"anew" * 1024
    later = snapshot(site, name, other)
    drained(site)
    fold_all(site)
    assert is_rooted(site, later), "the damage is hidden under what was written anew"
    image(site, name, bytes(expected), set())
    image(site, f"snapshot:{later}:{name}", bytes(expected), set())
    assert not is_rooted(site, point)
    site.kill_front()
    site.start_front()
    image(site, name, bytes(expected), set())


def test_a_chunk_that_is_lost_is_never_folded_into_a_new_one() -> None:
    world, disk, _ = shared()
    world.a.other = None
    site = world.a.site
    for _, at in places(world.a.store.extents, Kind.CHUNK):
        rot(world.a, at)
    write(site, disk, BLOCK_BYTES, b"new." * 1024)
    point = snapshot(site, disk)
    drained(site)
    fold_all(site)
    assert not is_rooted(site, point)
    blocks = site.blocks(disk)
    assert blocks[1] == b"new." * 1024
    assert [n for n, found in enumerate(blocks) if found is None] == list(range(8, len(blocks), 16))
    world.a.other = world.b
    world.a.scrub()
    fold_all(site)
    assert is_rooted(site, point), "the peer healed what lay below"
    expected = bytearray(noise(7))
    expected[4096:8192] = b"new." * 1024
    assert site.content(disk) == site.content(f"snapshot:{point}:{disk}") == bytes(expected)


def test_a_root_that_cannot_be_read_stops_no_start() -> None:
    world, disk, point = shared()
    world.a.other = None
    site = world.a.site
    other = create(site, 256 * KiB)
    write(site, other, 0, b"word" * 1024)
    for kind in (Kind.ROOT, Kind.LEAF):
        for _, at in places(world.a.store.extents, kind):
            rot(world.a, at)
    world.a.stop()
    world.a.start()
    assert site.content(other)[:4096] == b"word" * 1024
    assert set(site.blocks(f"snapshot:{point}:{disk}")) == {None}
    world.a.other = world.b
    world.a.scrub()
    assert site.content(disk) == site.content(f"snapshot:{point}:{disk}") == noise(7)


def test_a_damaged_node_and_its_damaged_chunks_are_healed_together() -> None:
    world, disk, _ = shared()
    for kind in (Kind.ROOT, Kind.LEAF, Kind.CHUNK):
        for _, at in places(world.a.store.extents, kind):
            rot(world.a, at)
    assert world.a.scrub()["damaged"] == 0
    assert world.a.site.content(disk) == noise(7)


def test_a_lost_index_does_not_lose_what_stands_over_a_rotten_chunk() -> None:
    world, disk, _ = shared()
    world.a.other = None
    rot(world.a, places(world.a.store.extents, Kind.CHUNK)[0][1])
    world.a.stop()
    world.a.site.index.clear()
    world.a.start()
    assert world.a.site.blocks(disk).count(None) == 1
    world.a.other = world.b
    assert world.a.scrub()["damaged"] == 0
    assert world.a.site.content(disk) == noise(7)


def test_a_snapshot_with_poison_is_refused_to_whoever_waits_for_it() -> None:
    site, name = started()
    scatter(site, name, b"one.")
    drained(site)
    path, at = place_of(site, b"one.one.", "hot")
    point = snapshot(site, name)
    drained(site)
    site.disk.flip(path, at)
    fold_all(site)
    assert site.store is not None
    poisoned = site.store.worker.poisoned()
    assert [m.epoch for m in site.store.hub.state.snapshots[point].members] == list(poisoned)
    with pytest.raises(DamagedData):
        site.content(f"snapshot:{point}:{name}")


def test_a_chunk_that_is_lost_from_the_index_before_its_fold_stops_no_other_fold() -> None:
    """The drain stores whole chunks; the fold of their disk names them only later. It was tried for ever, and every
    other fold waited behind it (seed 1080479481).
    """
    site, name = started()
    other = create(site)
    write(site, name, 0, noise(5, SIZE))
    write(site, other, 0, noise(6, SIZE))
    point, fine = snapshot(site, name), snapshot(site, other)
    drained(site)
    assert site.store is not None
    asked: list[bytes] = []
    site.store.worker.on_damage = asked.extend
    lost = digest_of(Kind.CHUNK, noise(5, SIZE)[: 64 * KiB])
    site.index.commit(Change(deletes=[lost]))
    fold_all(site)
    assert is_rooted(site, fine)
    assert not is_rooted(site, point)
    assert asked == [lost], "the healer hears of it"
