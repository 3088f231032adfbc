# SPDX-License-Identifier: Apache-2.0
"""Walks over whole trees: what differs between two versions, what a version consists of. Cost follows the change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from stargate.errors import DamagedData, InvalidArgument
from stargate.extents import nodes
from stargate.extents.format import HASH_BYTES, ZERO_HASH, Kind
from stargate.extents.nodes import span
from stargate.extents.reader import ExtentReader
from stargate.extents.walk import entries_of, open_root


class Node(NamedTuple):
    """A node on a walk. `children` are its hashes without holes, each once: chunks below a leaf."""

    kind: int
    level: int
    digest: bytes
    children: list[bytes]


class _Side(NamedTuple):
    store: ExtentReader
    fanout: int
    depth: int
    chunk_count: int

    def entries(self, digest: bytes, level: int) -> bytes:
        """Child hashes; of a hole zeros; above the top of a shallower tree the top alone."""
        if digest == ZERO_HASH:
            return bytes(self.fanout * HASH_BYTES)
        if level >= self.depth:
            return digest.ljust(self.fanout * HASH_BYTES, b"\0")
        return entries_of(self.store, digest, level, self.fanout)


def diff(store: ExtentReader, old_root: bytes | None, new_root: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(chunk, old hash, new hash) of every chunk that differs, ascending. None = against zeros. Beyond its end a
    version is zeros.

    Raises InvalidArgument when chunk size or fan-out differ, DamagedData, MissingExtent.
    """
    new, new_top = open_root(store, new_root)
    old, old_top = (new, ZERO_HASH) if old_root is None else open_root(store, old_root)
    if (old.chunk_bytes, old.fanout) != (new.chunk_bytes, new.fanout):
        raise InvalidArgument("versions of different chunk size or fan-out cannot be compared")
    sides = tuple(_Side(store, f.fanout, f.depth, f.chunk_count) for f in (old, new))
    level = max(old.depth, new.depth) - 1
    return _pairs(sides[0], sides[1], level, old_top, new_top, 0)


def _pairs(old: _Side, new: _Side, level: int, a: bytes, b: bytes, first: int) -> Iterator[tuple[int, bytes, bytes]]:
    if a == b:
        return
    left, right = old.entries(a, level), new.entries(b, level)
    below = span(new.fanout, level - 1) if level else 1
    for slot in _different(left, right):
        place = slice(slot * HASH_BYTES, (slot + 1) * HASH_BYTES)
        at = first + slot * below
        if level:
            yield from _pairs(old, new, level - 1, left[place], right[place], at)
            continue
        if at >= max(old.chunk_count, new.chunk_count):
            raise DamagedData("a tree has content beyond its end")
        yield at, left[place], right[place]


def _different(left: bytes, right: bytes) -> list[int]:
    rows = np.frombuffer(left, dtype=np.uint64) != np.frombuffer(right, dtype=np.uint64)
    found: list[int] = np.flatnonzero(rows.reshape(-1, HASH_BYTES // 8).any(axis=1)).tolist()
    return found


def walk_nodes(store: ExtentReader, root: bytes, *, seen: set[bytes] | None = None) -> Iterator[Node]:
    """Every node of a version once, parents first. What is in `seen` is left out with all below it; walked nodes are
    added to it.
    """
    done = set() if seen is None else seen
    if root in done:
        return
    done.add(root)
    fmt, top = open_root(store, root)
    yield Node(Kind.ROOT, 0, root, [] if top == ZERO_HASH else [top])
    waiting = [] if top == ZERO_HASH or top in done else [(fmt.depth - 1, top)]
    while waiting:
        level, digest = waiting.pop()
        if digest in done:
            continue
        done.add(digest)
        kind = Kind.INNER if level else Kind.LEAF
        entries_of(store, digest, level, fmt.fanout)
        found = nodes.children(kind, store.read_node(digest))
        yield Node(kind, level, digest, found)
        if level:
            waiting.extend((level - 1, child) for child in reversed(found))


def reachable(store: ExtentReader, roots: Iterable[bytes]) -> set[bytes]:
    """All hashes, of nodes and chunks, that these versions need: the live set of a sweep."""
    live: set[bytes] = set()
    chunks: set[bytes] = set()
    for root in roots:
        for node in walk_nodes(store, root, seen=live):
            if node.kind == Kind.LEAF:
                chunks.update(node.children)
    return live | chunks
