# SPDX-License-Identifier: Apache-2.0
"""A version as a Merkle tree of chunk hashes: make, read, change. Equal content gives equal roots, whatever the order
of writes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from stargate.errors import DamagedData, InvalidArgument
from stargate.extents import nodes
from stargate.extents.diff import diff, reachable, walk_nodes
from stargate.extents.format import HASH_BYTES, ZERO_HASH, Kind
from stargate.extents.nodes import TreeFormat, span
from stargate.extents.reader import ExtentReader
from stargate.extents.store import ExtentStore
from stargate.extents.walk import entries_of, open_root

__all__ = ["TreeFormat", "TreeReader", "diff", "empty_root", "reachable", "update", "walk_nodes"]

_LEAVES_MAX = 1024


def empty_root(store: ExtentStore, fmt: TreeFormat) -> bytes:
    """Root of a version of zeros."""
    return store.put_node(Kind.ROOT, nodes.pack_root(fmt, ZERO_HASH))


class TreeReader:
    """Chunk hashes of one version. Raises MissingExtent or DamagedData when a node cannot be read. One thread at a
    time.
    """

    def __init__(self, store: ExtentReader, root: bytes) -> None:
        self.root = root
        self.format, self._top = open_root(store, root)
        self._store = store
        self._depth = self.format.depth
        self._leaves: dict[int, bytes] = {}

    def chunk(self, index: int) -> bytes:
        """Hash of a chunk; ZERO_HASH for a hole. Raises InvalidArgument beyond the end."""
        if not 0 <= index < self.format.chunk_count:
            raise InvalidArgument(f"chunk {index} is beyond the end of the version")
        number, slot = divmod(index, self.format.fanout)
        leaf = self._leaf(number)
        return leaf[slot * HASH_BYTES : (slot + 1) * HASH_BYTES] if leaf else ZERO_HASH

    def chunks(self, first: int, count: int) -> list[bytes]:
        """Hashes of `count` chunks from `first`."""
        if first < 0 or count < 0 or first + count > self.format.chunk_count:
            raise InvalidArgument(f"chunks {first}+{count} are beyond the end of the version")
        found: list[bytes] = []
        fanout = self.format.fanout
        while count > 0:
            number, slot = divmod(first, fanout)
            step = min(count, fanout - slot)
            leaf = self._leaf(number)
            if leaf:
                found += [
                    leaf[at : at + HASH_BYTES]
                    for at in range(slot * HASH_BYTES, (slot + step) * HASH_BYTES, HASH_BYTES)
                ]
            else:
                found += [ZERO_HASH] * step
            first, count = first + step, count - step
        return found

    def _leaf(self, number: int) -> bytes:
        """The hashes in a leaf, or empty bytes for a hole."""
        leaf = self._leaves.get(number)
        if leaf is None:
            leaf = self._descend(number)
            while len(self._leaves) >= _LEAVES_MAX:
                del self._leaves[next(iter(self._leaves))]
            self._leaves[number] = leaf
        return leaf

    def _descend(self, number: int) -> bytes:
        fanout, digest = self.format.fanout, self._top
        for level in range(self._depth - 1, 0, -1):
            if digest == ZERO_HASH:
                return b""
            slot = number // fanout ** (level - 1) % fanout
            entries = entries_of(self._store, digest, level, fanout)
            digest = entries[slot * HASH_BYTES : (slot + 1) * HASH_BYTES]
        return b"" if digest == ZERO_HASH else entries_of(self._store, digest, 0, fanout)


class _Work(NamedTuple):
    """What an update does: sorted changes and sorted, disjoint zero ranges [first, end)."""

    indexes: list[int]
    hashes: list[bytes]
    zero_firsts: list[int]
    zero_ends: list[int]

    def changes_in(self, first: int, end: int) -> range:
        return range(bisect_left(self.indexes, first), bisect_left(self.indexes, end))

    def zeros_in(self, first: int, end: int) -> list[tuple[int, int]]:
        """The parts of [first, end) that are zeroed."""
        low, high = bisect_left(self.zero_ends, first + 1), bisect_left(self.zero_firsts, end)
        return [(max(first, self.zero_firsts[i]), min(end, self.zero_ends[i])) for i in range(low, high)]


def update(
    store: ExtentStore,
    root: bytes,
    changes: Iterable[tuple[int, bytes]],
    zero_ranges: Iterable[tuple[int, int]] = (),
    size_bytes: int | None = None,
) -> bytes:
    """New root: first the zero ranges (first chunk, count), then the changes (chunk, hash), sorted by chunk.

    `size_bytes` resizes (None = as before); whoever shrinks into the middle of a chunk passes that chunk anew with its
    tail zeroed.
    Raises InvalidArgument for unsorted changes or ones beyond the end, MissingChild when a chunk is not stored.
    """
    old, top = open_root(store, root)
    new = old if size_bytes is None else old.resized(size_bytes)
    depth = max(old.depth, new.depth)
    work = _plan(changes, zero_ranges, old, new)
    top = _raise(store, top, old.depth, depth, new.fanout)
    top = _node(store, new.fanout, depth - 1, top, 0, work)
    top = _lower(store, top, depth, new)
    return store.put_node(Kind.ROOT, nodes.pack_root(new, top), base=root)


def _plan(
    changes: Iterable[tuple[int, bytes]], zeros: Iterable[tuple[int, int]], old: TreeFormat, new: TreeFormat
) -> _Work:
    pairs = list(changes)
    indexes = [index for index, _ in pairs]
    if any(a >= b for a, b in pairwise(indexes)):
        raise InvalidArgument("changes of a tree must be sorted by chunk, each chunk once")
    if indexes and not 0 <= indexes[0] <= indexes[-1] < new.chunk_count:
        raise InvalidArgument(f"a change lies beyond the {new.chunk_count} chunks of the version")
    ranges = [(first, first + count) for first, count in zeros if count > 0]
    if any(first < 0 or end > max(old.chunk_count, new.chunk_count) for first, end in ranges):
        raise InvalidArgument("a zero range lies beyond the end of the version")
    if new.chunk_count < old.chunk_count:
        ranges.append((new.chunk_count, old.chunk_count))
    merged = _merged(sorted(ranges))
    return _Work(indexes, [digest for _, digest in pairs], [first for first, _ in merged], [end for _, end in merged])


def _merged(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, end in ranges:
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((first, end))
    return found


def _node(store: ExtentStore, fanout: int, level: int, base: bytes, first: int, work: _Work) -> bytes:
    """Hash of the changed node that covers the chunks from `first`; `base` when nothing in it changes."""
    end = first + span(fanout, level)
    changes, zeros = work.changes_in(first, end), work.zeros_in(first, end)
    if base == ZERO_HASH or (zeros and zeros[0] == (first, end)):
        if not changes:
            return ZERO_HASH
        zeros, start = [], ZERO_HASH
    else:
        start = base
    if not changes and not zeros:
        return base
    old = bytes(fanout * HASH_BYTES) if start == ZERO_HASH else entries_of(store, start, level, fanout)
    entries = bytearray(old)
    if level == 0:
        _change_leaf(entries, first, changes, zeros, work)
    else:
        _change_inner(store, fanout, level, entries, first, zeros, work)
    return _put(store, fanout, level, entries, base)


def _change_leaf(entries: bytearray, first: int, changes: range, zeros: list[tuple[int, int]], work: _Work) -> None:
    for low, high in zeros:
        entries[(low - first) * HASH_BYTES : (high - first) * HASH_BYTES] = bytes((high - low) * HASH_BYTES)
    for i in changes:
        at = (work.indexes[i] - first) * HASH_BYTES
        entries[at : at + HASH_BYTES] = work.hashes[i]


def _change_inner(
    store: ExtentStore,
    fanout: int,
    level: int,
    entries: bytearray,
    first: int,
    zeros: list[tuple[int, int]],
    work: _Work,
) -> None:
    below = span(fanout, level - 1)
    slots: set[int] = set()
    for low, high in zeros:
        slots.update(range((low - first) // below, (high - 1 - first) // below + 1))
    changes = work.changes_in(first, first + below * fanout)
    position = changes.start
    while position < changes.stop:
        slot = (work.indexes[position] - first) // below
        slots.add(slot)
        position = bisect_left(work.indexes, first + (slot + 1) * below, position, changes.stop)
    for slot in sorted(slots):
        place = slice(slot * HASH_BYTES, (slot + 1) * HASH_BYTES)
        cleared = bytes(entries[place])
        entries[place] = _node(store, fanout, level - 1, cleared, first + slot * below, work)


def _put(store: ExtentStore, fanout: int, level: int, entries: bytearray, base: bytes) -> bytes:
    if entries == bytes(len(entries)):
        return ZERO_HASH
    kind = Kind.INNER if level else Kind.LEAF
    return store.put_node(
        kind, nodes.pack_node(level, fanout, bytes(entries)), base=None if base == ZERO_HASH else base
    )


def _raise(store: ExtentStore, top: bytes, depth: int, wanted: int, fanout: int) -> bytes:
    """The top of the same content in a deeper tree."""
    for level in range(depth, wanted):
        if top != ZERO_HASH:
            top = store.put_node(Kind.INNER, nodes.pack_node(level, fanout, top.ljust(fanout * HASH_BYTES, b"\0")))
    return top


def _lower(store: ExtentReader, top: bytes, depth: int, new: TreeFormat) -> bytes:
    """The top of the same content in the shallower tree that the new size demands; all that is cut off is zeroed
    already.
    """
    for level in range(depth - 1, new.depth - 1, -1):
        if top != ZERO_HASH:
            entries = entries_of(store, top, level, new.fanout)
            if entries[HASH_BYTES:] != bytes(len(entries) - HASH_BYTES):
                raise DamagedData("a tree has content beyond its end")
            top = entries[:HASH_BYTES]
    return top
