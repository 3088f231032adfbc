# SPDX-License-Identifier: Apache-2.0
"""Damage at one of two sites: found by the scrub or a reader, healed from the other, refused where nobody has one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from random import Random

import pytest

from stargate.errors import DamagedData, PeerProtocol, PeerRefused
from stargate.extents.format import HEADER_BYTES, Codec, Kind, chunk_hash, node_hash, table_bytes
from stargate.extents.index import Change, Location
from stargate.extents.nodes import pack_node
from stargate.extents.store import ExtentStore
from stargate.peer.items import RANK_ROOT, Fetch, Item, Place
from stargate.peer.readback import ReadBack
from stargate.scrub import scrubber as scrubber_module
from stargate.units import BLOCK_BYTES, KiB
from tests.engine.test_halves import create, drained, snapshot, write
from tests.scrub.world import DISK_BYTES, Beside, Member, World


def noise(seed: int, size: int = DISK_BYTES) -> bytes:
    return Random(seed).randbytes(size)


def rooted(member: Member, *disks: str) -> str:
    point = snapshot(member.site, *disks)
    drained(member.site)
    while member.site.fold():
        member.site.settle()
    return point


def shared() -> tuple[World, str, str]:
    """A disk of noise at site a, with a snapshot that site b holds too."""
    world = World(Random(1))
    disk = create(world.a.site, DISK_BYTES)
    write(world.a.site, disk, 0, noise(7))
    point = rooted(world.a, disk)
    world.replicate(world.a, world.b, point)
    return world, disk, point


def places(extents: ExtentStore, kind: int) -> list[tuple[bytes, Location]]:
    return sorted((d, at) for d, at in extents.index.items() if at.kind == kind)


def rot(member: Member, at: Location, where: int = -1) -> None:
    """Flip a bit at byte `where` of the extent; by default inside its payload."""
    where = HEADER_BYTES + table_bytes(at.stored_bytes) + at.stored_bytes // 2 if where < 0 else where
    member.site.disk.flip(f"egroups/g-{at.egroup:08d}", at.offset + where)
    member.store.extents.drop_cached(next(d for d, a in member.store.extents.index.items() if a == at))


@pytest.mark.parametrize("kind", [Kind.CHUNK, Kind.LEAF, Kind.ROOT])
@pytest.mark.parametrize("where", [20, -1])
def test_it_heals_what_the_other_site_has(kind: Kind, where: int) -> None:
    world, disk, point = shared()
    digest, at = places(world.a.store.extents, kind)[0]
    rot(world.a, at, where)
    assert world.a.scrub()["damaged"] == 0
    assert world.a.scrubber is not None
    assert world.a.scrubber.health()["healed"] == 1
    assert world.a.store.extents.index.get(digest) != at
    world.a.store.extents.verify(digest)
    assert world.a.site.content(disk) == world.a.site.content(f"snapshot:{point}:{disk}") == noise(7)
    assert (at.egroup, at.offset) in {freed[:2] for freed in world.a.store.extents.index.freed()}


def test_it_heals_the_receiving_site_too() -> None:
    world, disk, point = shared()
    for kind in (Kind.CHUNK, Kind.LEAF, Kind.ROOT):
        rot(world.b, places(world.b.store.extents, kind)[0][1])
    health = world.b.scrub()
    assert health["damaged"] == 0, health
    assert world.b.site.content(f"snapshot:{point}:{disk}") == noise(7)


def test_a_rotten_header_is_healed_without_the_other_site() -> None:
    world, disk, _ = shared()
    world.a.other = None
    rot(world.a, places(world.a.store.extents, Kind.CHUNK)[0][1], where=20)
    assert world.a.scrub()["damaged"] == 0
    assert world.a.site.content(disk) == noise(7)


@pytest.mark.parametrize("kind", [Kind.CHUNK, Kind.LEAF, Kind.ROOT])
def test_an_index_entry_that_is_gone_is_found_again(kind: Kind) -> None:
    world, disk, _ = shared()
    world.a.other = None
    digest, at = places(world.a.store.extents, kind)[0]
    world.a.site.index.commit(Change(deletes=[digest]))
    world.a.store.extents.drop_cached(digest)
    assert world.a.scrub()["damaged"] == 0
    assert world.a.store.extents.index.get(digest) == at._replace(stamp=world.a.store.extents.epoch)
    assert world.a.site.content(disk) == noise(7)


def test_a_read_that_meets_damage_asks_for_healing() -> None:
    world, disk, _ = shared()
    for _, at in places(world.a.store.extents, Kind.CHUNK):
        rot(world.a, at)
    assert world.a.site.front is not None
    assert world.a.scrubber is not None
    asked = world.a.scrubber.healer
    world.a.site.front.engine.on_damage = lambda digest: asked.ask([digest])
    export = world.a.site.front.exports.lookup(disk)
    with pytest.raises(DamagedData):
        export.read(32 * KiB, BLOCK_BYTES)
    asked.turn()
    assert b"".join(export.read(0, 64 * KiB)) == noise(7)[: 64 * KiB]
    with pytest.raises(DamagedData):
        export.read(96 * KiB, BLOCK_BYTES)


def test_what_nobody_has_stays_refused_and_is_no_deduplication_hit() -> None:
    world, disk, _ = shared()
    other = create(world.a.site, DISK_BYTES)
    write(world.a.site, other, 0, noise(8))
    rooted(world.a, other)
    extents = world.a.store.extents
    known = {d for d, _ in places(world.b.store.extents, Kind.CHUNK)}
    digest, at = next((d, at) for d, at in places(extents, Kind.CHUNK) if d not in known)
    rot(world.a, at)
    assert world.a.scrub()["damaged"] == 1
    blocks = world.a.site.blocks(other)
    assert blocks.count(None) == 1, "the other blocks of the chunk are sound"
    assert all(found in (None, noise(8)[n * 4096 : n * 4096 + 4096]) for n, found in enumerate(blocks))
    assert world.a.site.content(disk) == noise(7)
    roots = [d for d, _ in places(extents, Kind.ROOT) if not extents.has([d])[0]]
    assert len(roots) == 1, "a tree over damage is no complete one"
    first = blocks.index(None) // 16 * 64 * KiB
    write(world.a.site, disk, 0, noise(8)[first : first + 64 * KiB])
    drained(world.a.site)
    assert world.a.site.content(other) == noise(8)
    assert world.a.scrub()["damaged"] == 0
    assert extents.has([*roots, digest]) == [True, True]


def test_a_site_that_is_asked_for_a_copy_can_leave_nothing_else_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node without what is below it would pass for a complete subtree, and stop every sweep."""
    world, disk, _ = shared()
    node = pack_node(0, 256, Random(3).randbytes(256 * 32))
    planted = Item(Kind.LEAF, node_hash(node), Codec.RAW, len(node), node)
    honest = Beside.fetch

    def fetch(source: Beside, root: bytes, wanted: Sequence[Place]) -> Sequence[Item] | None:
        return [planted, *(honest(source, root, wanted) or ())]

    monkeypatch.setattr(Beside, "fetch", fetch)
    rot(world.a, places(world.a.store.extents, Kind.CHUNK)[0][1])
    assert world.a.scrub()["damaged"] == 0
    assert world.a.site.content(disk) == noise(7)
    assert world.a.store.extents.index.get(planted.hash) is None
    world.a.site.settle()
    world.a.store.sweeper.sweep()


@pytest.mark.parametrize("gone", [0, 1])
def test_it_heals_through_a_tree_that_the_other_site_kept_when_it_deleted_another(gone: int) -> None:
    """By this site's catalog both trees are shared, and both hold the chunk; whichever comes first may be refused."""
    world, disk, first = shared()
    write(world.a.site, disk, 0, noise(9, 4 * KiB))
    second = rooted(world.a, disk)
    world.replicate(world.a, world.b, second)
    assert world.b.site.front is not None
    world.b.site.front.orders.do_snapshot_delete((first, second)[gone], None)
    drained(world.b.site)
    assert len(set(Beside(world.b, world.a).roots())) == 1
    digest = chunk_hash(noise(7)[64 * KiB : 128 * KiB])
    at = world.a.store.extents.index.get(digest)
    assert at is not None
    rot(world.a, at)
    assert world.a.scrub()["damaged"] == 0


def test_a_peer_reads_back_nothing_but_what_is_shared() -> None:
    world, _, _ = shared()
    other = create(world.a.site, DISK_BYTES)
    write(world.a.site, other, 0, noise(8))
    rooted(world.a, other)
    back = ReadBack(world.a.store.extents, world.a.store.grants.shares)
    roots = [d for d, _ in places(world.a.store.extents, Kind.ROOT)]
    mine = [d for d, _ in places(world.b.store.extents, Kind.ROOT)]
    for root in roots:
        question = Fetch(root, [Place(RANK_ROOT, 0), Place(1, 0), Place(0, 3)])
        if root in mine:
            assert [item.kind for item in back.fetch(world.b.site_id, question).items] == [3, 1, 0]
        else:
            with pytest.raises(PeerRefused):
                back.fetch(world.b.site_id, question)
        with pytest.raises(PeerRefused):
            back.fetch("00000000-0000-0000-0000-000000000009", question)
    with pytest.raises(PeerProtocol):
        back.fetch(world.b.site_id, Fetch(mine[0], [Place(0, 1 << 63)]))


def test_the_dates_survive_a_restart_and_the_oldest_comes_first() -> None:
    world, _, _ = shared()
    assert world.a.scrubber is not None
    first = world.a.scrubber.step()
    world.a.stop()
    world.a.start()
    assert world.a.scrubber is not None
    dates = world.a.scrubber.dates
    assert first is not None
    assert dates.state.units[first].checked_at > 0
    seen = [world.a.scrubber.step() for _ in dates.state.units]
    assert set(seen) == set(dates.state.units)
    assert seen[-1] == first
    assert world.a.scrubber.health()["last_pass_at"] is not None


def test_what_is_asked_for_is_read_now_once_and_over_a_restart() -> None:
    world, _, _ = shared()
    world.a.scrub()
    scrubber = world.a.scrubber
    assert scrubber is not None
    assert not scrubber._due()
    parts = scrubber.ask()["asked_left"]
    assert parts == scrubber.health()["parts"] > 2
    assert scrubber._due()
    first = scrubber.step()
    world.a.stop()
    world.a.start()
    scrubber = world.a.scrubber
    assert scrubber is not None
    read = {first}
    while scrubber._due():
        assert len(read) < parts + 2, "it never ends"
        read.add(scrubber.step())
    assert read >= {"index", "log", "catalog"}
    assert scrubber.health()["asked_left"] == 0


def test_an_error_that_nobody_foresaw_does_not_end_the_scrub(monkeypatch: pytest.MonkeyPatch) -> None:
    world, _, _ = shared()
    scrubber = world.a.scrubber
    assert scrubber is not None
    monkeypatch.setattr(scrubber_module, "LOOK_SECONDS", 0.01)
    calls: list[str] = []
    ended = threading.Event()

    def check(name: str) -> None:
        calls.append(name)
        if len(calls) == 1:
            raise ValueError("odd")
        scrubber.dates.checked(name, {})
        if not scrubber.dates.state.asked:
            ended.set()

    monkeypatch.setattr(scrubber, "_check", check)
    parts = scrubber.ask()["asked_left"]
    scrubber.start()
    try:
        assert ended.wait(30)
    finally:
        scrubber.stop()
    assert len(calls) == len(set(calls)) == parts, "the one that could not be checked stands back"
    assert [item.unit for item in scrubber.dates.state.damaged.values()] == calls[:1]
