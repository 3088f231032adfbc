# SPDX-License-Identifier: Apache-2.0
"""The index made anew from the egroups. Payloads are checked too: a torn extent must not become a dedup hit."""

from __future__ import annotations

from stargate.errors import DamagedData, Unavailable
from stargate.extents import format as ef
from stargate.extents import nodes
from stargate.extents.egroups import HEAD_BYTES, EgroupFiles
from stargate.extents.index import Change, Index, Location, in_batches
from stargate.fs.disk import Disk


def rebuild(disk: Disk, index: Index) -> int:
    """Fill `index` from the egroups of `disk`; how many extents it has. No store may be open for writing. Raises
    Unavailable.
    """
    files = EgroupFiles(disk, read_only=False)
    try:
        store_id = files.store_id()
        if store_id is None:
            raise Unavailable("there is no extent group to rebuild the index from")
        return rebuild_files(files, index, store_id)
    finally:
        files.close()


def rebuild_files(files: EgroupFiles, index: Index, store_id: bytes, *, epoch: int = 0) -> int:
    """As `rebuild`. The identity is written last: a rebuild that was interrupted is started again at the next open."""
    index.clear()
    waiting: dict[bytes, tuple[Location, list[bytes]]] = {}
    empty_bytes = 0
    for egroup in files.numbers():
        found: list[tuple[bytes, Location]] = []
        for offset, header in files.scan(egroup, store_id):
            empty_bytes -= ef.aligned(ef.extent_bytes(header.stored_bytes))
            location = Location(
                egroup, offset, header.stored_bytes, header.size_bytes, header.kind, header.codec, header.level, epoch
            )
            plain = _checked(files, location, header)
            if plain is None:
                continue
            if header.kind == ef.Kind.CHUNK:
                found.append((header.digest, location))
            else:
                waiting[header.digest] = location, nodes.children(header.kind, plain)
        # Readable is not durable: these bytes may be in the page cache only.
        files.file(egroup).fdatasync()
        empty_bytes += files.file(egroup).size() - HEAD_BYTES
        for batch in in_batches(found):
            index.commit(Change(puts=batch))
    _enter_nodes(index, waiting)
    meta = ("epoch", epoch.to_bytes(8, "little")), ("returned_bytes", max(0, empty_bytes).to_bytes(8, "little"))
    index.commit(Change(meta=(*meta, ("store_id", store_id))))
    return index.count()


def _checked(files: EgroupFiles, location: Location, header: ef.ExtentHeader) -> bytes | None:
    """Uncompressed bytes of an extent whose payload is whole; None for a torn or damaged one."""
    at = location.offset + ef.HEADER_BYTES + len(header.crcs)
    try:
        payload = files.read(location.egroup, at, header.stored_bytes)
        if not ef.check_blocks(payload, header.crcs, 0):
            return None
        if header.kind == ef.Kind.CHUNK:
            return payload
        plain = ef.decode(header.codec, payload, header.size_bytes)
        return plain if nodes.level_of(header.kind, plain) == header.level else None
    except DamagedData:
        return None


def _enter_nodes(index: Index, waiting: dict[bytes, tuple[Location, list[bytes]]]) -> None:
    """Children before parents; a node below which something is missing stays out, because presence means a complete
    subtree.
    """
    for rank in sorted({location.rank for location, _ in waiting.values()}):
        ready = [
            (digest, location)
            for digest, (location, children) in waiting.items()
            if location.rank == rank and all(found is not None for found in index.get_many(children))
        ]
        for batch in in_batches(ready):
            index.commit(Change(puts=batch))
