# SPDX-License-Identifier: Apache-2.0
"""The sweep beside everything else: bounded, never believing a damaged index, never in the way of replication."""

from __future__ import annotations

import os
import random
import uuid
from pathlib import Path
from random import Random

import pytest

from stargate.errors import PeerRefused
from stargate.extents import sweep
from stargate.extents.egroups import path_of
from stargate.extents.format import Kind, MissingExtent
from stargate.extents.index import Index, LmdbIndex, MemoryIndex
from stargate.extents.nodes import children
from stargate.extents.store import ExtentStore
from stargate.extents.tree import TreeFormat, TreeReader, empty_root, reachable, update
from stargate.fs.disk import OsDisk
from stargate.store import grants as grants_module
from stargate.store.grants import CatalogGrants
from stargate.store.hub import CatalogHub
from stargate.store.sweep import Sweeper
from stargate.units import KiB, MiB
from tests.extents.helpers import CHUNK, memory_store, noise

COUNT = 60
PEER = str(uuid.UUID(int=7))


class Time:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


def version(store: ExtentStore, seed: int, root: bytes | None = None) -> bytes:
    """A version with ten noisy chunks of its own, in a tree of four levels."""
    base = root or empty_root(store, TreeFormat(COUNT * CHUNK, CHUNK, 4))
    picked = sorted(random.Random(seed).sample(range(COUNT), 10))
    return update(store, base, [(i, store.put_chunk(noise(seed * 1000 + i, CHUNK))) for i in picked])


@pytest.mark.parametrize("part", [1, 5, 1000])
@pytest.mark.parametrize("kind", [MemoryIndex, LmdbIndex])
def test_it_leaves_exactly_what_the_roots_reach_whatever_the_parts(
    part: int, kind: type[Index], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PART_EXTENTS", part)
    index = LmdbIndex(tmp_path / "index") if kind is LmdbIndex else MemoryIndex()
    store = ExtentStore(OsDisk(tmp_path), index, writable=True, egroup_bytes=MiB)
    roots = [version(store, 0)]
    for seed in range(1, 8):
        roots.append(version(store, seed, Random(seed).choice(roots)))
    lone = store.put_chunk(noise(999, CHUNK))
    store.flush()
    keep = [*roots[::3], lone]
    wanted = reachable(store, keep[:-1]) | {lone}
    store.sweep_delete(keep, store.sweep_begin())
    assert {digest for digest, _ in index.items()} == wanted
    assert store.sweep_delete(keep, store.sweep_begin()) == []
    store.close()


def test_parts_cover_the_hash_space_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "PART_EXTENTS", 3)
    for count in (0, 1, 3, 4, 1000):
        found = sweep.parts(count)
        assert found[0][0] == b""
        assert found[-1][1] > b"\xff" * 32
        assert [high for _, high in found[:-1]] == [low for low, _ in found[1:]]


@pytest.mark.parametrize("hidden", [Kind.INNER, Kind.LEAF, Kind.CHUNK, Kind.ROOT])
def test_it_takes_nothing_below_what_a_damaged_index_hides(hidden: Kind, tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    root = version(store, 1)
    dead = version(store, 2)
    store.flush()
    live = reachable(store, [root])
    victim = next(d for d, location in sorted(index.items()) if location.kind == hidden and d in live)
    location = index._extents.pop(victim)
    with pytest.raises(MissingExtent, match="rebuild"):
        store.sweep_delete([root], store.sweep_begin())
    assert {d for d, _ in index.items()} >= live - {victim}
    index._extents[victim] = location
    store.sweep_delete([root], store.sweep_begin())
    assert {d for d, _ in index.items()} == live
    assert dead not in live


def test_the_file_system_gets_its_blocks_back(tmp_path: Path) -> None:
    """Small and odd-sized extents too: holes are made of whole pages."""
    store = memory_store(tmp_path, egroup_bytes=8 * MiB)
    rng = Random(3)
    sizes = [4 * KiB, 8 * KiB, 64 * KiB]
    doomed = [store.put_chunk(rng.randbytes(rng.choice(sizes))) for _ in range(150)]
    kept = store.put_chunk(rng.randbytes(64 * KiB))
    texts = [store.put_chunk((b"%06d " % n).ljust(64, b"x") * 1024) for n in range(300)]  # some hundred bytes each
    store.flush()
    file = tmp_path / path_of(1)
    before = os.stat(file).st_blocks * 512
    epoch = store.sweep_begin()
    for batch in store.sweep_steps([kept, *texts[:1]], epoch):
        assert os.stat(file).st_blocks * 512 == before, "readers may still be there"
        assert batch
    store.punch()
    held = os.stat(file).st_blocks * 512
    assert held <= 64 * KiB + 6 * 4 * KiB, f"{held} of {before} bytes are still held"
    assert store.read_chunk(kept)
    assert store.read_chunk(texts[0])
    assert store.has([doomed[0]]) == [False]


class Receiver:
    """The store's side of incoming replication."""

    def __init__(self, folder: Path) -> None:
        self.disk = OsDisk(folder)
        self.index = MemoryIndex()
        self.clock = Time()
        self.start()
        self.hub.commit({"op": "peer", "site_id": PEER, "name": "far", "certificate": ""})

    def start(self) -> None:
        self.hub = CatalogHub(self.disk)
        self.store = ExtentStore(self.disk, self.index, writable=True, egroup_bytes=MiB)
        self.grants = CatalogGrants(self.hub, self.clock, lambda: self.store.epoch)
        self.sweeper = Sweeper(self.hub, self.store, self.grants, _no_table, self.clock)
        self.hub._acked = 1 << 60  # no front reads here

    def restart(self) -> None:
        self.store.close()
        self.hub.close()
        self.start()

    def deliver(self, seed: int) -> bytes:
        with self.store.hold():
            root = version(self.store, seed)
            self.store.flush()
        return root

    def here(self, root: bytes) -> bool:
        return self.index.get(root) is not None and bool(TreeReader(self.store, root).chunks(0, COUNT))


def _no_table(ref: object) -> object:
    raise AssertionError("nothing is hot")


def test_a_sweep_goes_on_beside_an_open_grant_and_keeps_what_came_before_a_cut(tmp_path: Path) -> None:
    site = Receiver(tmp_path)
    old = site.deliver(1)
    site.sweeper.sweep()  # a new epoch: `old` is from before the grant
    site.deliver(2)
    site.grants.allow("s", PEER, "p", MiB, 3600.0)
    mine = site.deliver(3)
    for _ in range(3):
        site.sweeper.sweep()
        assert site.here(mine)
    assert not site.here(old)
    site.restart()
    site.sweeper.sweep()
    assert site.here(mine), "the grant is in the catalog"
    site.grants.grant("s", PEER, "p")
    site.clock.advance(3599.0)
    site.sweeper.sweep()
    assert site.here(mine)
    site.clock.advance(2.0)
    site.sweeper.sweep()
    assert not site.here(mine), "the grant ran out"


def test_what_nobody_comes_back_for_is_kept_for_some_hours_only(tmp_path: Path) -> None:
    site = Receiver(tmp_path)
    site.grants.allow("s", PEER, "p", MiB, 7 * 86400.0)
    root = site.deliver(1)
    site.clock.advance(grants_module.STAGED_SECONDS - 1)
    site.sweeper.sweep()
    assert site.here(root)
    site.grants.grant("s", PEER, "p")
    site.clock.advance(grants_module.STAGED_SECONDS - 1)
    site.sweeper.sweep()
    assert site.here(root), "it came back in between"
    site.clock.advance(2)
    site.sweeper.sweep()
    assert not site.here(root)
    assert site.grants.grant("s", PEER, "p").quota_bytes == MiB, "it may still send all of it again"


def test_a_snapshot_published_during_a_sweep_is_kept(tmp_path: Path) -> None:
    site = Receiver(tmp_path)
    site.grants.allow("s", PEER, "p", MiB, 3600.0)
    root = site.deliver(1)
    steps = site.store.sweep_steps

    def publish_first(named: object, epoch: int) -> object:
        from stargate.peer.wire import Member

        grant = site.grants.grant("s", PEER, "p")
        site.grants.publish(grant, [Member(str(uuid.uuid4()), root, COUNT * CHUNK, CHUNK)], {})
        assert site.hub.state.grants == {}
        return steps(named, epoch)  # type: ignore[arg-type]

    site.store.sweep_steps = publish_first  # type: ignore[method-assign, assignment]
    site.sweeper.sweep()
    assert site.here(root)
    site.store.sweep_steps = steps  # type: ignore[method-assign]
    site.sweeper.sweep()
    assert site.here(root)


def test_expired_grants_leave_the_catalog_and_quotas_outlive_a_restart(tmp_path: Path) -> None:
    site = Receiver(tmp_path)
    site.grants.allow("a", PEER, "p", 10 * MiB, 100.0)
    site.grants.allow("b", PEER, "q", 10 * MiB, 1000.0)
    site.grants.used("b", 3 * MiB)
    site.grants.used("b", 2 * MiB)
    site.clock.advance(101.0)
    assert site.grants.end_expired() == 1
    with pytest.raises(PeerRefused):
        site.grants.grant("a", PEER, "p")
    site.restart()
    assert set(site.hub.state.grants) == {"b"}
    assert site.grants.grant("b", PEER, "q").used_bytes == 3 * MiB
    site.grants.allow("b", PEER, "q", 20 * MiB, 1000.0)
    assert site.grants.grant("b", PEER, "q").used_bytes == 3 * MiB, "given again it is prolonged, not renewed"
    assert site.hub.state.grants["b"].since <= site.store.epoch


def test_a_node_kept_for_an_ingest_keeps_all_below_it(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    roots = [version(store, seed) for seed in range(4)]
    store.flush()
    epoch = store.sweep_begin()
    inner = next(d for d, loc in sorted(index.items()) if loc.kind == Kind.INNER and d in reachable(store, roots[:1]))
    assert store.has([inner]) == [True]
    store.sweep_delete(roots[3:], epoch)
    waiting = [inner]
    while waiting:
        name = waiting.pop()
        location = index.get(name)
        assert location is not None
        if location.kind != Kind.CHUNK:
            waiting += children(location.kind, store.read_node(name))
    assert store.has(roots[:3]) == [False] * 3
