# SPDX-License-Identifier: Apache-2.0
"""How many stored bytes belong to which owners: one walk, rank by rank, over everything that is named.

Owners are bits of an integer. `LIVE` swallows all others: what a vDisk needs is given back by no deletion of snapshots.
Memory: some 200 bytes for each node of the trees (one per 256 chunks of a full tree, one to four per chunk that changed
between two snapshots); chunks are taken in parts of the hash space.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from stargate.extents import format as ef
from stargate.extents import nodes
from stargate.extents.nodes import FANOUT
from stargate.extents.reader import ExtentReader
from stargate.extents.sweep import parts

LIVE = 1
_BATCH = 4096

Masks = dict[bytes, int]


def census(
    store: ExtentReader, roots: Mapping[bytes, int], chunks: Callable[[], Iterable[tuple[bytes, int]]]
) -> dict[int, int]:
    """Owners -> bytes of the extents that exactly these reach. `chunks` tells chunks that are named besides the
    trees, no holes; it is called several times. Raises DamagedData, MissingExtent.
    """
    sizes: Counter[int] = Counter()
    by_rank: defaultdict[int, Masks] = defaultdict(dict)
    _weigh(store, roots, sizes)
    for root, owners in roots.items():
        fmt, top = nodes.parse_root(store.read_node(root))
        if top != ef.ZERO_HASH:
            _own(by_rank[fmt.depth], top, owners)
    for rank in range(max(by_rank, default=1), 1, -1):
        here = by_rank.pop(rank, {})
        _weigh(store, here, sizes)
        below = by_rank[rank - 1]
        for digest, owners in here.items():
            for child in nodes.children(ef.Kind.INNER, store.read_node(digest)):
                _own(below, child, owners)
    leaves = by_rank.pop(1, {})
    _weigh(store, leaves, sizes)
    _chunks(store, leaves, chunks, sizes)
    return dict(sizes)


def _own(masks: Masks, digest: bytes, owners: int) -> None:
    both = masks.get(digest, 0) | owners
    masks[digest] = LIVE if both & LIVE else both


def _chunks(
    store: ExtentReader, leaves: Masks, chunks: Callable[[], Iterable[tuple[bytes, int]]], sizes: Counter[int]
) -> None:
    """Only chunks that somebody but LIVE names are remembered; then those that LIVE names too are left out."""
    others = [(leaf, owners) for leaf, owners in leaves.items() if owners != LIVE]
    lives = [leaf for leaf, owners in leaves.items() if owners == LIVE]
    most = len(others) * FANOUT + sum(1 for _, owners in chunks() if owners != LIVE)
    for low, high in parts(min(most, store.index.count())):
        found: Masks = {}
        for leaf, owners in others:
            for child in nodes.children(ef.Kind.LEAF, store.read_node(leaf)):
                if low <= child < high:
                    _own(found, child, owners)
        for chunk, owners in chunks():
            if owners != LIVE and low <= chunk < high:
                _own(found, chunk, owners)
        for chunk, owners in chunks() if found else ():
            if owners == LIVE and chunk in found:
                found[chunk] = LIVE
        for leaf in lives if found else ():
            for child in nodes.children(ef.Kind.LEAF, store.read_node(leaf)):
                if child in found:
                    found[child] = LIVE
        _weigh(store, found, sizes)


def _weigh(store: ExtentReader, masks: Mapping[bytes, int], sizes: Counter[int]) -> None:
    names = [name for name, owners in masks.items() if owners != LIVE]
    for at in range(0, len(names), _BATCH):
        batch = names[at : at + _BATCH]
        for name, location in zip(batch, store.index.get_many(batch), strict=True):
            if location is None:
                raise ef.MissingExtent(f"extent {name.hex()} is not in the index; rebuild the index")
            sizes[masks[name]] += ef.extent_bytes(location.stored_bytes)
