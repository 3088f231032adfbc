# SPDX-License-Identifier: Apache-2.0
"""Trees that a paired but hostile site may build of nodes that are sound each by itself."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest

from stargate.errors import PeerProtocol
from stargate.extents import nodes
from stargate.extents.format import HASH_BYTES, Kind
from stargate.extents.index import MemoryIndex
from stargate.extents.nodes import TreeFormat
from stargate.extents.store import ExtentStore
from stargate.extents.tree import diff
from stargate.fs.memdisk import MemDisk
from stargate.peer.ingest import Grant
from stargate.peer.shape import Shapes
from stargate.peer.wire import Member
from stargate.units import CHUNK_BYTES
from tests.peer.sites import Book, CountingIngest, noise, version


class CountingStore(ExtentStore):
    """Counts how often each node is read."""

    reads: Counter[bytes]

    def read_node(self, digest: bytes) -> bytes:
        self.reads[digest] += 1
        return super().read_node(digest)


@pytest.fixture
def store() -> Iterator[CountingStore]:
    found = CountingStore(MemDisk(), MemoryIndex(), writable=True)
    found.reads = Counter()
    yield found
    found.close()


def leaf(store: ExtentStore, slots: dict[int, bytes], fanout: int = 256) -> bytes:
    return node(store, 0, slots, fanout)


def node(store: ExtentStore, level: int, slots: dict[int, bytes], fanout: int = 256) -> bytes:
    entries = bytearray(fanout * HASH_BYTES)
    for slot, digest in slots.items():
        entries[slot * HASH_BYTES : (slot + 1) * HASH_BYTES] = digest
    return store.put_node(Kind.INNER if level else Kind.LEAF, nodes.pack_node(level, fanout, entries))


def root(store: ExtentStore, chunks: int, top: bytes) -> bytes:
    return store.put_node(Kind.ROOT, nodes.pack_root(TreeFormat(chunks * CHUNK_BYTES), top))


def publish(store: ExtentStore, name: bytes, chunks: int) -> Book:
    book = Book()
    grant = Grant("session", "site", "snapshot", 0)
    CountingIngest(store, book).publish(grant, [Member(str(uuid.uuid4()), name, chunks * CHUNK_BYTES, CHUNK_BYTES)], {})
    return book


def test_it_publishes_no_node_of_a_foreign_fan_out(store: CountingStore, rng: random.Random) -> None:
    chunk = store.put_chunk(rng.randbytes(CHUNK_BYTES))
    foreign = leaf(store, {0: chunk}, fanout=128)
    for name, chunks in ((root(store, 3, foreign), 3), (root(store, 300, node(store, 1, {1: foreign})), 300)):
        with pytest.raises(PeerProtocol):
            publish(store, name, chunks)


@pytest.mark.parametrize("chunks", [1, 3, 255])
def test_it_publishes_no_content_beyond_the_end(store: CountingStore, rng: random.Random, chunks: int) -> None:
    chunk = store.put_chunk(rng.randbytes(CHUNK_BYTES))
    with pytest.raises(PeerProtocol):
        publish(store, root(store, chunks, leaf(store, {chunks: chunk})), chunks)
    assert publish(store, root(store, chunks, leaf(store, {chunks - 1: chunk})), chunks).published


@pytest.mark.parametrize("size", [CHUNK_BYTES // 2, CHUNK_BYTES * 2])
def test_it_publishes_no_chunk_of_another_size(store: CountingStore, rng: random.Random, size: int) -> None:
    foreign, own = store.put_chunk(rng.randbytes(size)), store.put_chunk(rng.randbytes(CHUNK_BYTES))
    with pytest.raises(PeerProtocol):
        publish(store, root(store, 9, leaf(store, {0: own, 4: foreign})), 9)
    assert publish(store, root(store, 9, leaf(store, {0: own})), 9).published


def test_it_looks_beyond_the_end_in_every_level(store: CountingStore, rng: random.Random) -> None:
    low = leaf(store, {3: store.put_chunk(rng.randbytes(CHUNK_BYTES))})
    for chunks, slots in ((257, {1: low}), (259, {0: low, 1: low}), (300, {2: low}), (512, {2: low})):
        with pytest.raises(PeerProtocol):
            publish(store, root(store, chunks, node(store, 1, slots)), chunks)
    assert publish(store, root(store, 260, node(store, 1, {0: low, 1: low})), 260).published


def test_it_agrees_with_the_engine_about_random_trees(store: CountingStore, rng: random.Random) -> None:
    chunk = store.put_chunk(rng.randbytes(CHUNK_BYTES))
    seen = set()
    for _ in range(200):
        fanouts = [rng.choice([256, 256, 256, 128]) for _ in range(2)]
        leaves = [leaf(store, {rng.randrange(fanout): chunk}, fanout) for fanout in fanouts]
        chunks = rng.randint(257, 600)
        name = root(store, chunks, node(store, 1, {rng.randrange(4): digest for digest in leaves}))
        store.flush()
        seen.add(sound(store, name))
        assert checked(store, name) == sound(store, name)
    assert seen == {True, False}


def sound(store: ExtentStore, name: bytes) -> bool:
    try:
        return list(diff(store, None, name)) is not None
    except Exception:
        return False


def checked(store: ExtentStore, name: bytes) -> bool:
    try:
        return Shapes(store).check(name) is not None
    except PeerProtocol:
        return False


def test_it_reads_each_node_once_however_often_it_stands_in_the_tree(store: CountingStore, rng: random.Random) -> None:
    below = leaf(store, dict.fromkeys(range(256), store.put_chunk(rng.randbytes(CHUNK_BYTES))))
    for level in (1, 2):
        below = node(store, level, dict.fromkeys(range(256), below))
    name = root(store, 256**3, below)
    store.flush()
    store.reads.clear()
    Shapes(store).check(name)
    assert sum(store.reads.values()) == 4


def test_it_reads_only_what_is_new_of_the_next_version(store: CountingStore, rng: random.Random) -> None:
    old = version(store, noise(rng, range(0, 1024, 200)), 1024)
    new = version(store, noise(rng, [7]), 1024, root=old)
    shapes = Shapes(store)
    shapes.check(old)
    store.reads.clear()
    shapes.check(new)
    assert sum(store.reads.values()) == 3
