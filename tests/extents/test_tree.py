# SPDX-License-Identifier: Apache-2.0
"""Trees: canonical roots, updates, resizes and diffs against the plain list of hashes."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stargate.errors import DamagedData, InvalidArgument, PeerProtocol
from stargate.extents import nodes
from stargate.extents.format import ZERO_HASH, Codec, Kind, MissingChild, chunk_hash, node_hash
from stargate.extents.store import ExtentStore
from stargate.extents.tree import TreeFormat, TreeReader, diff, empty_root, reachable, update, walk_nodes
from stargate.units import TiB
from tests.extents.helpers import CHUNK, memory_store, noise

CHUNKS_MAX = 90
Model = dict[int, int]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExtentStore]:
    made = memory_store(tmp_path_factory.mktemp("store"), egroup_bytes=16 << 20)
    for value in range(8):
        made.put_chunk(noise(value, CHUNK))
    yield made
    made.close()


HASHES = [chunk_hash(noise(value, CHUNK)) for value in range(8)]


def build(
    store: ExtentStore, model: Model, count: int, *, order: list[list[int]] | None = None, fanout: int = 4
) -> bytes:
    """A root of the model, its chunks entered in several updates."""
    root = empty_root(store, TreeFormat(count * CHUNK, CHUNK, fanout))
    for group in order or [sorted(model)]:
        root = update(store, root, [(index, HASHES[model[index]]) for index in sorted(group)])
    return root


def content(store: ExtentStore, root: bytes) -> list[bytes]:
    reader = TreeReader(store, root)
    return reader.chunks(0, reader.format.chunk_count)


models = st.dictionaries(st.integers(0, CHUNKS_MAX - 1), st.integers(0, 7), max_size=60)


@given(model=models, seed=st.integers(0, 2**32), extra=models)
@settings(max_examples=60, deadline=None)
def test_it_has_one_root_for_one_content(store: ExtentStore, model: Model, seed: int, extra: Model) -> None:
    """Order of writes, chunks written and zeroed again, a detour over a larger size: the root is the same."""
    chance = random.Random(seed)
    shuffled = list(model)
    chance.shuffle(shuffled)
    cut = chance.randint(0, len(shuffled))
    direct = build(store, model, CHUNKS_MAX)
    assert build(store, model, CHUNKS_MAX, order=[shuffled[:cut], shuffled[cut:]]) == direct
    dirty = build(store, {**model, **extra}, CHUNKS_MAX)
    back = [(index, HASHES[model[index]] if index in model else ZERO_HASH) for index in sorted(extra)]
    assert update(store, dirty, back) == direct
    grown = update(store, direct, [(900, HASHES[1])], [], 1000 * CHUNK)
    assert update(store, grown, [], [], CHUNKS_MAX * CHUNK) == direct


@given(
    model=models,
    changes=models,
    zeros=st.lists(st.tuples(st.integers(0, CHUNKS_MAX - 1), st.integers(0, CHUNKS_MAX)), max_size=4),
    count=st.integers(1, 400),
)
@settings(max_examples=80, deadline=None)
def test_it_updates_and_diffs_like_a_plain_list(
    store: ExtentStore, model: Model, changes: Model, zeros: list[tuple[int, int]], count: int
) -> None:
    old = build(store, model, CHUNKS_MAX)
    zeros = [(first, min(length, CHUNKS_MAX - first)) for first, length in zeros]
    kept = {index: value for index, value in changes.items() if index < count}
    new = update(store, old, [(i, HASHES[v]) for i, v in sorted(kept.items())], zeros, count * CHUNK)
    plain = [HASHES[model[i]] if i in model else ZERO_HASH for i in range(CHUNKS_MAX)]
    after = (plain + [ZERO_HASH] * count)[:count]
    for first, length in zeros:
        for index in range(first, min(first + length, count)):
            after[index] = ZERO_HASH
    for index, value in kept.items():
        after[index] = HASHES[value]
    assert content(store, new) == after
    long = max(count, CHUNKS_MAX)
    left, right = (side + [ZERO_HASH] * (long - len(side)) for side in (plain, after))
    assert list(diff(store, old, new)) == [(i, left[i], right[i]) for i in range(long) if left[i] != right[i]]
    assert list(diff(store, None, new)) == [(i, ZERO_HASH, after[i]) for i in range(count) if after[i] != ZERO_HASH]
    assert reachable(store, [new]) >= set(after) - {ZERO_HASH}


def test_it_reads_single_chunks_and_refuses_the_rest(store: ExtentStore) -> None:
    root = build(store, {0: 1, 89: 2}, CHUNKS_MAX)
    reader = TreeReader(store, root)
    assert [reader.chunk(i) for i in (0, 1, 50, 89)] == [HASHES[1], ZERO_HASH, ZERO_HASH, HASHES[2]]
    for index in (-1, 90):
        with pytest.raises(InvalidArgument):
            reader.chunk(index)
    with pytest.raises(InvalidArgument):
        reader.chunks(80, 11)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK * 4, CHUNK * 4 + 1, CHUNK * 16, CHUNK * 17, TiB])
def test_it_makes_empty_versions_of_any_size(store: ExtentStore, size: int) -> None:
    fmt = TreeFormat(size, CHUNK, 4)
    assert 4 ** (fmt.depth - 1) < max(fmt.chunk_count, 2) <= 4**fmt.depth or fmt.depth == 1
    root = empty_root(store, fmt)
    assert TreeReader(store, root).format == fmt
    assert list(diff(store, None, root)) == []
    assert [node.digest for node in walk_nodes(store, root)] == [root]


def test_it_refuses_unsorted_changes_and_those_beyond_the_end(store: ExtentStore) -> None:
    root = build(store, {}, 10)
    for changes in ([(2, HASHES[0]), (1, HASHES[0])], [(1, HASHES[0])] * 2, [(10, HASHES[0])], [(-1, HASHES[0])]):
        with pytest.raises(InvalidArgument):
            update(store, root, changes)
    with pytest.raises(InvalidArgument):
        update(store, root, [], [(5, 6)])
    with pytest.raises(InvalidArgument):
        list(diff(store, root, empty_root(store, TreeFormat(10 * CHUNK, CHUNK, 8))))


def test_it_accepts_no_node_without_its_children(store: ExtentStore) -> None:
    absent = chunk_hash(noise(99, CHUNK))
    with pytest.raises(MissingChild):
        update(store, build(store, {}, 10), [(3, absent)])
    payload = nodes.pack_node(0, 4, absent + bytes(96))
    with pytest.raises(MissingChild):
        store.put_verified(Kind.LEAF, node_hash(payload), Codec.RAW, payload, len(payload))


def test_it_refuses_nodes_at_the_wrong_depth(store: ExtentStore) -> None:
    leaf = nodes.pack_node(0, 4, HASHES[0] + bytes(96))
    digest = store.put_node(Kind.LEAF, leaf)
    skipping = nodes.pack_node(2, 4, digest + bytes(96))
    over_chunk = nodes.pack_node(1, 4, HASHES[0] + bytes(96))
    root = nodes.pack_root(TreeFormat(60 * CHUNK, CHUNK, 4), digest)
    for kind, payload in ((Kind.INNER, skipping), (Kind.INNER, over_chunk), (Kind.ROOT, root)):
        with pytest.raises(PeerProtocol):
            store.put_verified(kind, node_hash(payload), Codec.RAW, payload, len(payload))
    with pytest.raises(DamagedData):
        store.put_node(Kind.INNER, leaf)


def test_it_does_not_take_a_chunk_for_a_node(store: ExtentStore) -> None:
    payload = nodes.pack_node(0, 127, bytes(127 * 32)) + bytes(24)
    assert chunk_hash(payload) != node_hash(payload)
    root = nodes.pack_root(TreeFormat(CHUNK, CHUNK, 4), HASHES[0])
    with pytest.raises(DamagedData):
        store.put_node(Kind.ROOT, root)


def test_it_bounds_what_a_root_may_claim() -> None:
    good = nodes.pack_root(TreeFormat(100 * CHUNK, CHUNK, 4), HASHES[0])
    assert nodes.parse_root(good)[0] == TreeFormat(100 * CHUNK, CHUNK, 4)
    for at in range(24):
        for value in (0x00, 0x7F, 0xFF):
            bad = good[:at] + bytes([value]) + good[at + 1 :]
            try:
                fmt, _ = nodes.parse_root(bad)
            except DamagedData:
                continue
            assert nodes.pack_root(fmt, HASHES[0]) == bad


def test_it_walks_a_tree_of_equal_nodes_in_no_time(store: ExtentStore) -> None:
    """64 TiB of one chunk: a billion chunks, but one leaf and one node per level."""
    fmt = TreeFormat(64 * TiB, 65536, 256)
    digest = store.put_chunk(noise(5))
    level_hash = digest
    for level in range(fmt.depth):
        count = 256 if level < fmt.depth - 1 else fmt.chunk_count // 256 ** (fmt.depth - 1)
        kind = Kind.INNER if level else Kind.LEAF
        hashes = (level_hash * count).ljust(256 * 32, b"\0")
        level_hash = store.put_node(kind, nodes.pack_node(level, 256, hashes))
    root = store.put_node(Kind.ROOT, nodes.pack_root(fmt, level_hash))
    walked = list(walk_nodes(store, root))
    assert [node.level for node in walked] == [0, 3, 2, 1, 0]
    assert reachable(store, [root]) == {node.digest for node in walked} | {digest}
    changed = update(store, root, [(1 << 29, HASHES[0])])
    assert list(diff(store, root, changed)) == [(1 << 29, digest, HASHES[0])]


def test_it_says_so_when_content_lies_beyond_the_end(store: ExtentStore) -> None:
    leaf = store.put_node(Kind.LEAF, nodes.pack_node(0, 4, HASHES[0] * 4))
    root = store.put_node(Kind.ROOT, nodes.pack_root(TreeFormat(2 * CHUNK, CHUNK, 4), leaf))
    with pytest.raises(DamagedData):
        list(diff(store, None, root))


def test_it_touches_only_the_nodes_on_the_way(store: ExtentStore) -> None:
    root = empty_root(store, TreeFormat(TiB))
    first = update(store, root, [(index, HASHES[0]) for index in range(0, 1 << 24, 1 << 14)])
    store.flush()
    before = store.index.count()
    second = update(store, first, [(77, HASHES[1])])
    store.flush()
    assert store.index.count() - before == 4
    assert list(diff(store, first, second)) == [(77, ZERO_HASH, HASHES[1])]
