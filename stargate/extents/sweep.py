# SPDX-License-Identifier: Apache-2.0
"""Deleting what nothing names, beside running ingests, in bounded memory.

Rank by rank from the roots down, so that a crash at any point leaves no node without its children. Because presence
means a complete subtree, what is needed at a rank follows from the nodes that are still present above it; nothing is
remembered between ranks. An extent that was asked for or put since the sweep began stays, and so, by the same rule,
does all that lies below it.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from stargate.errors import DamagedData
from stargate.extents import format as ef
from stargate.extents import nodes
from stargate.extents.egroups import HEAD_BYTES
from stargate.extents.index import Change, Freed, Index, Location
from stargate.fs.disk import NO_SPACE
from stargate.units import BLOCK_BYTES

if TYPE_CHECKING:
    from stargate.extents.reader import ExtentReader
    from stargate.extents.store import ExtentStore

log = logging.getLogger(__name__)

PART_EXTENTS = 1 << 20
"""Extents looked at together: bounds the memory of a sweep or scan to some 100 MiB."""

CHUNK_RANK, ROOT_RANK = 0, 256
_BATCH = 1024
_OWED = 4096
"""Ranges that are given back together: a whole group of chunks, which is then one hole."""

_LOOKED_AT = 1 << 16
"""Owed ranges whose deadness is looked up together, in some 20 MiB of memory."""

_WALK_FROM = 32
"""A header is read in the time in which the walk over the index makes this many steps."""
_HEADER_MAX = ef.HEADER_BYTES + ef.table_bytes(ef.CHUNK_BYTES_MAX)
_BEYOND = b"\xff" * (ef.HASH_BYTES + 1)


def parts(count: int) -> list[tuple[bytes, bytes]]:
    """Ranges [low, high) of the hash space with about `PART_EXTENTS` of `count` evenly spread hashes each."""
    number = max(1, -(-count // PART_EXTENTS))
    edges = [(at << 64) // number for at in range(number)]
    lows = [edge.to_bytes(8, "big") if edge else b"" for edge in edges]
    return list(zip(lows, [*lows[1:], _BEYOND], strict=True))


def ranks(index: Index) -> Counter[int]:
    """Rank -> extents of that rank."""
    found = Counter(location.rank for _, location in index.nodes())
    found[CHUNK_RANK] = max(0, index.count() - found.total())
    return found


def children_at(store: ExtentReader, location: Location, digest: bytes, rank: int) -> list[bytes]:
    """The children of a present node that are of `rank`. Raises DamagedData, MissingExtent."""
    if location.rank != rank + 1 and location.kind != ef.Kind.ROOT:
        return []
    payload = store.read_node(digest)  # perhaps remembered, and the index has rotted since
    if nodes.level_of(location.kind, payload) != location.level:
        raise _wrong_about(digest)
    if location.kind == ef.Kind.ROOT and nodes.parse_root(payload)[0].depth != rank:
        return []
    return nodes.children(location.kind, payload)


def delete(store: ExtentStore, named: Iterable[bytes], epoch: int) -> Iterator[list[Freed]]:
    """Delete all that nothing in `named` (roots and chunks) needs; yields the ranges freed, batch by batch.

    `named` is iterated over several times. A range's deletion is durable when it is yielded; its bytes are still there
    for readers that located them before. Raises MissingExtent, before anything that depends on it was deleted, for a
    needed extent that the index does not show: rebuild the index.
    """
    depth = _check_named(store, named)
    found = ranks(store.index)
    for rank in sorted({*found, *range(depth + 1)}, reverse=True):  # also those that nothing claims to have
        for low, high in parts(found[rank]):
            needed = _needed(store, rank, low, high)
            direct = {name for name in named if low <= name < high} if rank in (CHUNK_RANK, ROOT_RANK) else set()
            dead = _dead(store, rank, (low, high), needed, direct)
            if rank != CHUNK_RANK:
                _check_headers(store, dead)
            for at in range(0, len(dead), _BATCH):
                yield _delete_batch(store, dead[at : at + _BATCH], epoch)


def _check_named(store: ExtentStore, named: Iterable[bytes]) -> int:
    """All that is named is there and what the index says it is; the greatest depth of its trees."""
    depth = 0
    batch: list[bytes] = []
    for name in named:
        batch.append(name)
        if len(batch) == _BATCH:
            depth, batch = max(depth, _check_batch(store, batch)), []
    return max(depth, _check_batch(store, batch))


def _check_batch(store: ExtentStore, names: list[bytes]) -> int:
    """A root that the index takes for a chunk or another node would protect nothing."""
    _refuse_missing(store, names)
    depth = 0
    for name, location in zip(names, store.index.get_many(names), strict=True):
        if location is None:
            continue  # a hole
        if location.kind == ef.Kind.ROOT:
            depth = max(depth, nodes.parse_root(store.read_node(name))[0].depth)
        elif location.kind != ef.Kind.CHUNK:
            _check_headers(store, [name])
        elif location.size_bytes < BLOCK_BYTES:
            raise _wrong_about(name)
    return depth


def _refuse_missing(store: ExtentStore, names: list[bytes]) -> None:
    for name, location in zip(names, store.index.get_many(names), strict=True):
        if location is None and name != ef.ZERO_HASH:
            raise ef.MissingExtent(
                f"extent {name.hex()} is needed but not in the index; nothing below it is swept, rebuild the index"
            )


def _wrong_about(digest: bytes) -> ef.MissingExtent:
    """What the index says of a rank decides what is deleted when: nothing may be, while it is wrong."""
    return ef.MissingExtent(
        f"the index is wrong about the kind of extent {digest.hex()}; nothing is swept until that is mended",
        digest=digest,
    )


def _check_headers(store: ExtentStore, dead: list[bytes]) -> None:
    """A chunk or node that the index takes for one of a higher rank would go before anybody asks who needs it. What
    cannot be read is as dead as it was.
    """
    for digest, location in zip(dead, store.index.get_many(dead), strict=True):
        if location is None:
            continue
        try:
            data = store.files.file(location.egroup).pread(_HEADER_MAX, location.offset)
            header = ef.parse_header(data, store.store_id, location.egroup, location.offset)
        except (DamagedData, OSError):
            continue
        if header.digest == digest and (header.kind, header.level) != (location.kind, location.level):
            raise _wrong_about(digest)


def _needed(store: ExtentStore, rank: int, low: bytes, high: bytes) -> set[bytes]:
    needed: set[bytes] = set()
    if rank == ROOT_RANK:
        return needed
    for digest, location in store.index.nodes():
        if location.rank > rank:
            needed.update(name for name in children_at(store, location, digest, rank) if low <= name < high)
    return needed


def _dead(
    store: ExtentStore, rank: int, part: tuple[bytes, bytes], needed: set[bytes], direct: set[bytes]
) -> list[bytes]:
    """What of this rank and part nobody needs. All that is needed must be there, or nothing may be deleted."""
    dead: list[bytes] = []
    for digest, location in store.index.nodes(*part) if rank else store.index.items(*part):
        if location.rank != rank:
            continue
        if digest in needed:
            needed.discard(digest)
        elif digest not in direct:
            dead.append(digest)
    _refuse_missing(store, list(needed))
    if needed:  # it is there, at another rank
        raise _wrong_about(min(needed))
    return dead


def _delete_batch(store: ExtentStore, digests: list[bytes], epoch: int) -> list[Freed]:
    """Delete one batch in one transaction. Stamps are read again under the lock under which has() and puts set them."""
    with store.lock:
        cut = store.cut(epoch)
        doomed: list[tuple[bytes, Location]] = [
            (digest, location)
            for digest, location in zip(digests, store.index.get_many(digests), strict=True)
            if location is not None and location.stamp < cut and not store.is_claimed(digest)
        ]
        freed = [Freed(loc.egroup, loc.offset, ef.extent_bytes(loc.stored_bytes)) for _, loc in doomed]
        if doomed:
            store.commit_index(Change(deletes=[digest for digest, _ in doomed], freed=freed))
    return freed


def give_back(store: ExtentStore, freed: Sequence[Freed] | None) -> int:
    """Make holes of these ranges (None: of all that are owed) and forget them; bytes."""
    if freed is None:
        return sum(_give_back(store, batch) for batch in iter(lambda: store.index.freed(_LOOKED_AT), []))
    # Only what the index still owes: a rebuild meanwhile may have brought an extent back to life.
    ranges = sorted(set(store.index.freed()).intersection(freed))
    return sum(_give_back(store, ranges[at : at + _LOOKED_AT]) for at in range(0, len(ranges), _LOOKED_AT))


def _give_back(store: ExtentStore, batch: Sequence[Freed]) -> int:
    dead = unused(store, batch)
    if len(dead) < len(batch):
        log.error("the index owes %d ranges that lie over what is in use; they stay", len(batch) - len(dead))
        with store.lock:
            store.commit_index(Change(returned=sorted(set(batch).difference(dead))))
    for at in range(0, len(dead), _OWED):
        _make_holes(store, dead[at : at + _OWED])
    return sum(item.length for item in dead)


def _make_holes(store: ExtentStore, dead: Sequence[Freed]) -> None:
    for hole in joined(dead):
        with store.lock:  # nobody appends meanwhile: the pages at the ends of a range are looked at before they go
            _make_hole(store, hole)
    # Durable before the ranges are forgotten: what a power cut brings back would be nobody's, and never go again.
    _sync(store, {item.egroup for item in dead})
    with store.lock:
        total = store.returned_bytes() + sum(item.length for item in dead)
        store.commit_index(Change(returned=dead, meta=(("returned_bytes", total.to_bytes(8, "little")),)))


def joined(ranges: Sequence[Freed]) -> list[Freed]:
    """Sorted `ranges`, those as one between which only padding lies: what was written together mostly dies together,
    and a hole costs the file system a millisecond whatever its length.
    """
    found: list[Freed] = []
    for item in ranges:
        last = found[-1] if found else None
        if last is not None and (last.egroup, ef.aligned(last.offset + last.length)) == item[:2]:
            found[-1] = last._replace(length=item.offset + item.length - last.offset)
        else:
            found.append(item)
    return found


def _sync(store: ExtentStore, egroups: set[int]) -> None:
    """These files are durable as they are. Raises StoreFrozen: a failure may be one of what was appended meanwhile."""
    try:
        for egroup in sorted(egroups):
            store.files.file(egroup).fdatasync()
    except OSError as exc:
        store.frozen = "the extent store could not make its data durable; restart it after checking the disk"
        raise ef.StoreFrozen(store.frozen, str(exc)) from exc


def unused(store: ExtentStore, batch: Sequence[Freed]) -> list[Freed]:
    """Those under which nothing lies that is in use: a rotten table of freed ranges must cost no byte.

    Of a few, most begin with the header of one extent of just their length that the index has elsewhere or not at all.
    Where that is damaged, or a hole already (the power went between hole and transaction), one walk over the index
    decides; so it does when they are many, for a walk is cheaper than that many reads.
    """
    many = len(batch) * _WALK_FROM >= store.index.count()
    proven = [] if many else [item for item in batch if _is_dead_extent(store, item)]
    doubtful = sorted(set(batch).difference(proven))
    inside = [item for item in doubtful if _lies_in_file(store, item)]
    return sorted([*proven, *set(inside).difference(_in_use(store, inside))])


def _is_dead_extent(store: ExtentStore, item: Freed) -> bool:
    try:
        data = store.files.file(item.egroup).pread(_HEADER_MAX, item.offset)
        header = ef.parse_header(data, store.store_id, item.egroup, item.offset)
    except (DamagedData, OSError):
        return False
    with store.lock:
        live = store.located(header.digest)
    return ef.extent_bytes(header.stored_bytes) == item.length and (live is None or live[:2] != item[:2])


def _lies_in_file(store: ExtentStore, item: Freed) -> bool:
    try:
        size = store.files.file(item.egroup).size()
    except DamagedData:
        return False
    return item.offset >= HEAD_BYTES and 0 < item.length <= size - item.offset


def _in_use(store: ExtentStore, ranges: Sequence[Freed]) -> set[Freed]:
    """Which of `ranges` an extent that the index shows, or that waits for its flush, overlaps."""
    if not ranges:
        return set()
    by_egroup: dict[int, _Ranges] = {}
    for egroup, items in groupby(sorted(ranges), key=attrgetter("egroup")):
        by_egroup[egroup] = _Ranges(list(items))
    with store.lock:
        waiting = store.waiting()
    found: set[Freed] = set()
    for at in chain(waiting, (location for _, location in store.index.items())):
        near = by_egroup.get(at.egroup)
        if near is not None:
            found.update(near.touched(at.offset, at.offset + ef.extent_bytes(at.stored_bytes)))
    return found


class _Ranges:
    """Of one file, sorted. They may overlap, for a table can rot."""

    def __init__(self, items: list[Freed]) -> None:
        self._items = items
        self._starts = [item.offset for item in items]
        self._ends = list(accumulate((item.offset + item.length for item in items), max))

    def touched(self, start: int, end: int) -> Iterator[Freed]:
        """Those that share a byte with [start, end)."""
        number = bisect_left(self._starts, end) - 1
        while number >= 0 and self._ends[number] > start:
            item = self._items[number]
            if item.offset + item.length > start:
                yield item
            number -= 1


def _make_hole(store: ExtentStore, item: Freed) -> None:
    try:
        store.files.punch(item)
    except OSError as exc:  # even a hole may need a block for the file system's own books
        if exc.errno not in NO_SPACE or not store.make_room():
            raise
        store.files.punch(item)
