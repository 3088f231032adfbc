# SPDX-License-Identifier: Apache-2.0
"""Sweeps and rebuilds: nothing that is needed goes, what is not needed does."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stargate.errors import DamagedData
from stargate.extents.egroups import path_of
from stargate.extents.format import Kind, MissingExtent
from stargate.extents.index import Change, LmdbIndex, Location, MemoryIndex
from stargate.extents.nodes import children
from stargate.extents.rebuild import rebuild
from stargate.extents.store import ExtentStore
from stargate.extents.tree import TreeFormat, TreeReader, empty_root, reachable, update
from stargate.fs.disk import OsDisk
from stargate.units import MiB
from tests.extents.helpers import CHUNK, memory_store, noise

COUNT = 60


def version(store: ExtentStore, seed: int, root: bytes | None = None) -> bytes:
    """A version with ten noisy chunks of its own."""
    base = root or empty_root(store, TreeFormat(COUNT * CHUNK, CHUNK, 4))
    chance = random.Random(seed)
    changes = [(i, store.put_chunk(noise(seed * 1000 + i, CHUNK))) for i in sorted(chance.sample(range(COUNT), 10))]
    return update(store, base, changes)


def read_all(store: ExtentStore, root: bytes) -> list[bytes]:
    reader = TreeReader(store, root)
    return [store.read_blocks(digest, 0, 1) for digest in reader.chunks(0, COUNT)]


def check_complete(index: MemoryIndex, store: ExtentStore) -> None:
    """Presence means a complete subtree."""
    for digest, location in index.items():
        if location.kind != Kind.CHUNK:
            assert all(index.get(child) for child in children(location.kind, store.read_node(digest)))


def test_it_deletes_what_no_root_reaches_and_returns_the_space(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    keep = version(store, 1)
    drop = version(store, 2, keep)
    store.flush()
    expected = read_all(store, keep)
    epoch = store.sweep_begin()
    freed = store.sweep_delete(reachable(store, [keep]), epoch)
    assert store.index.freed() == sorted(freed)
    assert {digest for digest, _ in index.items()} == reachable(store, [keep])
    assert store.has([drop]) == [False]
    assert store.punch(freed) == sum(f.length for f in freed) > 10 * CHUNK
    assert store.index.freed() == []
    data = (tmp_path / path_of(1)).read_bytes()
    assert all(not any(data[f.offset : f.offset + f.length]) for f in freed)
    assert read_all(store, keep) == expected


def test_it_keeps_what_was_asked_for_since_the_sweep_began(tmp_path: Path) -> None:
    """A have-hit on a node promises its whole subtree, although only the node itself was named."""
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    root = version(store, 1)
    other = version(store, 2)
    store.flush()
    expected = read_all(store, root)
    epoch = store.sweep_begin()
    assert store.has([root]) == [True]
    store.sweep_delete(set(), epoch)
    assert read_all(store, root) == expected
    assert store.has([other]) == [False]
    check_complete(index, store)


def test_it_keeps_what_a_put_relies_on_before_its_flush(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    base = version(store, 1)
    store.flush()
    epoch = store.sweep_begin()
    child = version(store, 2, base)
    store.sweep_delete(set(), epoch)
    store.flush()
    assert len(set(read_all(store, child))) > 10
    check_complete(index, store)


def test_it_keeps_what_an_open_ingest_put_before_the_sweep_began(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    store.sweep_begin()
    with store.hold():
        root = version(store, 1)
        store.flush()
        store.sweep_delete(set(), store.sweep_begin())
        assert store.has([root]) == [True]
        store.sweep_delete(set(), store.sweep_begin())
        expected = read_all(store, root)
    store.sweep_delete(set(), store.sweep_begin())
    assert len(set(expected)) == 11
    assert index.count() == 0


def test_it_never_deletes_what_is_claimed_at_any_moment_of_a_sweep(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)

    class Interrupting(MemoryIndex):
        """Somebody asks for nodes and builds on them before every batch of deletions."""

        busy = False

        def get_many(self, digests: list[bytes]) -> list[Location | None]:  # type: ignore[override]
            if not self.busy and len(digests) > 1:
                self.busy = True
                claim()
                self.busy = False
            return super().get_many(digests)

    index = Interrupting()
    index.busy = True
    store = memory_store(tmp_path, index)
    dead = [version(store, n) for n in range(6)]
    store.flush()
    claimed: list[bytes] = []

    def claim() -> None:
        root = chance.choice(dead)
        if store.has([root]) == [True]:
            claimed.append(root)
        nodes = [d for d, location in index.items() if location.kind == Kind.LEAF]
        if nodes:
            picked = chance.choice(nodes)
            assert store.has([picked]) == [True]
            claimed.append(picked)

    epoch = store.sweep_begin()
    index.busy = False
    store.sweep_delete(set(), epoch)
    index.busy = True
    assert claimed
    assert store.has(claimed) == [True] * len(claimed)
    check_complete(index, store)


def test_it_leaves_complete_subtrees_when_it_dies_in_a_sweep(tmp_path: Path) -> None:
    for deaths in range(4):
        index = Dying()
        store = memory_store(tmp_path / str(deaths), index)
        version(store, 2, version(store, 1))
        store.flush()
        epoch = store.sweep_begin()
        index.left = deaths
        with pytest.raises(KeyboardInterrupt):
            store.sweep_delete(set(), epoch)
        check_complete(index, store)


class Dying(MemoryIndex):
    left: int | None = None

    def commit(self, change: Change) -> None:
        if self.left is not None:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
        super().commit(change)


def test_it_finds_a_chunk_that_was_swept_and_stored_again(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    reader = ExtentStore(OsDisk(tmp_path), index, writable=False)
    digest = store.put_chunk(noise(1))
    store.flush()
    assert reader.read_chunk(digest) == noise(1)
    store.punch(store.sweep_delete(set(), store.sweep_begin()))
    with pytest.raises(MissingExtent):
        reader.read_chunk(digest)
    store.put_chunk(noise(1))
    store.flush()
    assert reader.read_blocks(digest, 2, 1) == noise(1)[8192:12288]


def entries(index: MemoryIndex) -> dict[bytes, Location]:
    return {digest: location._replace(stamp=0) for digest, location in index.items()}


def test_it_rebuilds_the_index_as_it_was(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index, egroup_bytes=64 * 1024)
    keep = version(store, 1)
    version(store, 2, keep)
    store.flush()
    store.punch(store.sweep_delete(reachable(store, [keep]), store.sweep_begin()))
    version(store, 3, keep)
    store.flush()
    store.close()
    fresh = MemoryIndex()
    assert rebuild(OsDisk(tmp_path), fresh) == index.count()
    assert entries(fresh) == entries(index)
    lost = MemoryIndex()
    again = memory_store(tmp_path, lost)
    assert entries(lost) == entries(index)
    check_complete(lost, again)


def test_it_rebuilds_around_damage_and_torn_tails(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    version(store, 2, version(store, 1))
    store.flush()
    store.close()
    path = tmp_path / path_of(1)
    good = path.read_bytes()
    for _ in range(60):
        data = bytearray(good[: chance.randrange(100, len(good))])
        for _ in range(chance.randrange(4)):
            data[chance.randrange(64, len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        fresh = MemoryIndex()
        again = memory_store(tmp_path, fresh, egroup_bytes=MiB)
        assert entries(fresh).items() <= entries(index).items()
        check_complete(fresh, again)
        for digest, _ in fresh.items():
            again.verify(digest)
        again.close()


def test_it_does_not_enter_a_node_whose_chunk_is_damaged(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    root = version(store, 1)
    store.flush()
    reader = TreeReader(store, root)
    digest = next(h for h in reader.chunks(0, COUNT) if any(h))
    location = index.get(digest)
    assert location is not None
    path = tmp_path / path_of(location.egroup)
    data = bytearray(path.read_bytes())
    data[location.offset + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedData):
        read_all(store, root)
    store.rebuild()
    assert store.has([digest, root]) == [False, False]
    store.put_chunk(noise(1000 + reader.chunks(0, COUNT).index(digest), CHUNK))
    assert version(store, 1) == root
    store.flush()
    assert store.has([digest, root]) == [True, True]


def test_it_does_not_punch_what_a_rebuild_brought_back(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    digest = store.put_chunk(noise(1))
    store.flush()
    freed = store.sweep_delete(set(), store.sweep_begin())
    store.rebuild()
    assert store.punch(freed) == 0
    assert store.read_chunk(digest) == noise(1)


def test_it_returns_what_an_older_run_left_deleted(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    store.put_chunk(noise(1))
    store.flush()
    before = store.stats().stored_bytes
    store.sweep_delete(set(), store.sweep_begin())
    store.close()
    again = memory_store(tmp_path, index)
    assert again.stats().stored_bytes == before
    assert again.punch() == before - again.stats().stored_bytes > 65536


def test_it_outlives_a_damaged_egroup_header(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    digest = store.put_chunk(noise(1))
    store.flush()
    store.close()
    path = tmp_path / path_of(1)
    data = path.read_bytes()
    path.write_bytes(b"x" * 64 + data[64:])
    again = memory_store(tmp_path, index)
    assert again.read_chunk(digest) == noise(1)
    other = again.put_chunk(noise(2))
    again.flush()
    assert again.files.numbers() == [1, 2]
    again.rebuild()
    assert [again.read_chunk(h) for h in (digest, other)] == [noise(1), noise(2)]
    again.close()
    (tmp_path / path_of(2)).unlink()
    for _ in range(2):
        with pytest.raises(DamagedData):
            ExtentStore(OsDisk(tmp_path), MemoryIndex(), writable=True, roots=[digest])


def test_it_begins_anew_after_a_power_cut_in_the_first_egroup_when_the_index_is_lost_too(tmp_path: Path) -> None:
    store = memory_store(tmp_path, MemoryIndex())
    store.put_chunk(noise(1))
    store.flush()
    store.close()
    path = tmp_path / path_of(1)
    path.write_bytes(bytes(64) + path.read_bytes()[64:])  # later bytes were kept, the header was not
    again = memory_store(tmp_path, MemoryIndex())
    digest = again.put_chunk(noise(2))
    again.flush()
    assert again.read_chunk(digest) == noise(2)


def test_it_survives_many_threads(tmp_path: Path) -> None:
    """Ingests, have-questions and sweeps at once: every held root stays readable."""
    index = LmdbIndex(tmp_path / "index")
    store = ExtentStore(OsDisk(tmp_path), index, writable=True)

    def ingest(worker: int) -> list[int]:
        found = []
        for turn in range(6):
            with store.hold():
                root = version(store, worker * 10 + turn % 2)
                store.flush()
                assert store.has([root]) == [True]
                found.append(len(set(read_all(store, root))))
        return found

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(ingest, worker) for worker in range(3)]
        while not all(job.done() for job in running):
            store.punch(store.sweep_delete(set(), store.sweep_begin()))
    assert [job.result() for job in running] == [[11] * 6] * 3
    store.sweep_delete(set(), store.sweep_begin())
    assert index.count() == 0
    store.close()
