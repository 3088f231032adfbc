# SPDX-License-Identifier: Apache-2.0
"""Where in trees a damaged chunk or node stands, and which nodes stand above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from stargate.errors import DamagedData
from stargate.extents import nodes
from stargate.extents.format import HASH_BYTES, ZERO_HASH, DamagedExtent, Kind
from stargate.extents.index import Index
from stargate.extents.nodes import TreeFormat
from stargate.extents.reader import ExtentReader
from stargate.extents.walk import entries_of, open_root
from stargate.peer.items import RANK_ROOT, Place


@dataclass(slots=True)
class Found:
    """`places`: one (root, place) for each damaged extent that a tree names, unreadable nodes among them though nobody
    asked for them. `above`: every node over any of them, in all trees looked at.
    """

    places: dict[bytes, tuple[bytes, Place]] = field(default_factory=dict)
    above: set[bytes] = field(default_factory=set)


class Finder:
    """One walk over some trees; a node that they share is read once."""

    def __init__(
        self,
        store: ExtentReader,
        wanted: set[bytes],
        *,
        absent_in: Index | None = None,
        pause: Callable[[int], None] | None = None,
    ) -> None:
        """`absent_in`: also find what this index does not know. `pause`: told the bytes of each node behind it."""
        self._store = store
        self._wanted = wanted
        self._absent_in = absent_in
        self._pause = pause
        self._seen: dict[bytes, bool] = {}
        self.found = Found()

    def look(self, roots: Iterable[bytes]) -> Found:
        for root in roots:
            try:
                shape, top = open_root(self._store, root)
            except DamagedData:
                self.found.places.setdefault(root, (root, Place(RANK_ROOT, 0)))
                continue
            if root in self._wanted or self._is_absent(root):
                self.found.places.setdefault(root, (root, Place(RANK_ROOT, 0)))
            if top != ZERO_HASH and self._node(root, shape, Place(shape.depth, 0), top):
                self.found.above.add(root)
        return self.found

    def _node(self, root: bytes, shape: TreeFormat, place: Place, digest: bytes) -> bool:
        """Whether the node or anything below it is damaged."""
        known = self._seen.get(digest)
        if known is not None:
            return known
        bad = digest in self._wanted or self._is_absent(digest)
        if bad:
            self.found.places.setdefault(digest, (root, place))
        try:
            entries = entries_of(self._store, digest, place.rank - 1, shape.fanout)
        except DamagedExtent:
            self.found.places.setdefault(digest, (root, place))
            self._seen[digest] = True
            return True
        children = [entries[at : at + HASH_BYTES] for at in range(0, len(entries), HASH_BYTES)]
        below = self._chunks(children) if place.rank == 1 else None
        first = place.at * shape.fanout
        dirty = False
        for slot, child in enumerate(children):
            if child == ZERO_HASH or (below is not None and child not in below):
                continue
            there = Place(place.rank - 1, first + slot)
            if below is not None:
                self.found.places.setdefault(child, (root, there))
                dirty = True
            else:
                dirty |= self._node(root, shape, there, child)
        if dirty:
            self.found.above.add(digest)
        self._seen[digest] = bad or dirty
        if self._pause is not None:
            self._pause(len(entries))
        return bad or dirty

    def _is_absent(self, node: bytes) -> bool:
        """Readable from memory, but the index has lost it."""
        return self._absent_in is not None and self._absent_in.get(node) is None

    def _chunks(self, children: list[bytes]) -> set[bytes]:
        """Those that are asked for, or absent."""
        names = set(children)
        bad = names & self._wanted
        if self._absent_in is not None:
            names.discard(ZERO_HASH)
            some = list(names)
            bad.update(n for n, at in zip(some, self._absent_in.get_many(some), strict=True) if at is None)
        return bad


def find(store: ExtentReader, roots: Iterable[bytes], wanted: set[bytes]) -> Found:
    """Where `wanted` stand in the trees under `roots`. Reads every node of them."""
    return Finder(store, wanted).look(roots)


def absent(store: ExtentReader, roots: Iterable[bytes], pause: Callable[[int], None]) -> Found:
    """What the trees name and the store's index does not know, and nodes that cannot be read."""
    return Finder(store, set(), absent_in=store.index, pause=pause).look(roots)


def named(store: ExtentReader, roots: Iterable[bytes]) -> set[bytes]:
    """Every hash that the trees name, as far as their nodes can be read; an unreadable one is named by its parent."""
    found = set(roots)
    waiting = sorted(found)
    while waiting:
        digest = waiting.pop()
        try:
            payload = store.read_node(digest)
            kind = store.kind(digest)
            below = nodes.children(kind, payload)
            are_nodes = nodes.expected_children(kind, payload)[0] != Kind.CHUNK
        except DamagedData:
            continue
        fresh = [child for child in below if child not in found]
        found.update(fresh)
        if are_nodes:
            waiting += fresh
    return found
