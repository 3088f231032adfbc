# SPDX-License-Identifier: Apache-2.0
"""Which stored bytes somebody needs, told from what the engine has in memory and not by its own checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stargate.extents.egroups import path_of
from stargate.extents.format import ZERO_HASH, extent_bytes
from stargate.extents.tree import reachable
from stargate.front.layers import HOT_BIT, POSITION_SHIFT
from stargate.hot.format import (
    BATCH,
    BLOCK_ENTRY,
    CHUNK_ENTRY,
    REGION_BYTES,
    ZERO_ENTRY,
    head_bytes,
)
from stargate.hot.regions import read_batch_table
from stargate.oplog.format import CONTROL, SEGMENT, SUPERBLOCK, SUPERBLOCK_SLOT_BYTES, WRITE
from stargate.oplog.format import first_mark as log_start
from stargate.oplog.reader import LogReader
from stargate.oplog.superblock import SUPERBLOCK_FILES
from stargate.store.grants import shared_roots
from stargate.units import BLOCK_BYTES
from tests.scrub.world import Member


class Live(NamedTuple):
    """`[start, end)` of a file. `what` is equal for bytes that are damaged and healed together; `copies` of it are
    stored, one is enough. `healable`: another copy exists somewhere.
    """

    path: str
    start: int
    end: int
    what: str
    healable: bool = False
    copies: int = 1


def live_bytes(member: Member) -> list[Live]:
    """Of a site that runs and has nothing on its line."""
    hot, log = _needed(member)
    return [*_catalog(member), *_extents(member), *_hot(member, hot), *_log(member, log)]


def needed_extents(member: Member) -> set[bytes]:
    state, disk = member.store.hub.state, member.site.disk
    refs = [ref for epoch in state.epochs.values() for ref in epoch.batches]
    chunks = {digest for ref in refs for _, digest in read_batch_table(disk, "hot", ref).chunks}
    return reachable(member.store.extents, state.roots()) | chunks - {ZERO_HASH}


def shared_extents(member: Member) -> set[bytes]:
    assert member.other is not None
    return reachable(member.store.extents, shared_roots(member.store.hub.state, member.other.site_id))


def _needed(member: Member) -> tuple[set[int], set[int]]:
    """Positions in the hot tier and in the log that a map points to."""
    assert member.site.front is not None
    hot: set[int] = set()
    log: set[int] = set()
    for layer in member.site.front.engine.layers._layers.values():
        if layer.tree is None:
            for _, value in layer.content.items():
                (hot if value & HOT_BIT else log).add(value >> POSITION_SHIFT)
    return hot, log


def _catalog(member: Member) -> Iterator[Live]:
    for path, data in member.site.disk.snapshot().items():
        if path.startswith("catalog/gen-"):
            yield Live(path, 0, len(data), "catalog")


def _extents(member: Member) -> Iterator[Live]:
    shared = shared_extents(member)
    for digest in needed_extents(member):
        at = member.store.extents.index.get(digest)
        assert at is not None
        end = at.offset + extent_bytes(at.stored_bytes)
        yield Live(path_of(at.egroup), at.offset, end, f"extent {digest.hex()}", digest in shared)
    for egroup in member.store.extents.files.numbers():
        yield Live(path_of(egroup), 0, 36, f"head of egroup {egroup}", True)


def _hot(member: Member, needed: set[int]) -> Iterator[Live]:
    disk, state = member.site.disk, member.store.hub.state
    for ref in [ref for epoch in state.epochs.values() for ref in epoch.batches]:
        table = read_batch_table(disk, "hot", ref)
        counts = len(table.zeros), len(table.chunks), len(table.blocks)
        used = BATCH.size + sum(n * e.size for n, e in zip(counts, (ZERO_ENTRY, CHUNK_ENTRY, BLOCK_ENTRY), strict=True))
        path, what = f"hot/r-{ref.region:08d}", f"table {ref.region}:{ref.offset}"
        for start in (ref.offset, ref.offset + ref.length - head_bytes(*counts)):
            yield Live(path, start, start + used, what, copies=2)
        for position in table.positions.tolist():
            if position in needed:
                offset = position % REGION_BYTES
                yield Live(path, offset, offset + BLOCK_BYTES, f"hot block {position}")


def _log(member: Member, needed: set[int]) -> Iterator[Live]:
    assert member.site.front is not None
    reader = LogReader(member.site.disk, "oplog")
    size = reader.info.segment_bytes
    covered = member.store.hub.state.covered
    start = covered if covered.position else log_start(reader.info.log_id)
    before = start.position // size
    segments = {before}
    for batch in reader.batches(start, member.site.front.engine.log.durable.position):
        index = batch.position // size
        payload = min([r.position for r in batch.records if r.type in (WRITE, CONTROL)], default=batch.end)
        parts = [(batch.position, payload)]
        for record in batch.records:
            if record.type == CONTROL:
                parts.append((record.position, record.position + record.length))
            elif record.type == WRITE:
                blocks = range(record.position, record.position + record.length, BLOCK_BYTES)
                parts += [(at, at + BLOCK_BYTES) for at in blocks if at in needed]
        path = f"oplog/slot-{reader._slots[index].number:04d}"
        yield from (Live(path, low - index * size, high - index * size, "log") for low, high in parts)
        segments.add(index)
    yield from _segments(reader, sorted(segments))
    for path in (f"oplog/{name}" for name in SUPERBLOCK_FILES):
        copies = member.site.disk.snapshot()[path]
        for at in (0, SUPERBLOCK_SLOT_BYTES):
            if any(copies[at : at + SUPERBLOCK.size]):
                yield Live(path, at, at + SUPERBLOCK.size, "superblock")


def _segments(reader: LogReader, indexes: list[int]) -> Iterable[Live]:
    """Headers. A footer says nothing that the next header does not."""
    for index in indexes:
        slot = reader._slots.get(index) or reader._lookup(index)
        assert slot is not None
        path = f"oplog/slot-{slot.number:04d}"
        yield Live(path, 0, SEGMENT.size, "log")
