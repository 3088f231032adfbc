# SPDX-License-Identifier: Apache-2.0
"""The index made anew from the egroups, or single entries of it found again. Payloads are checked too: a torn extent
must not become a dedup hit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stargate.errors import DamagedData, Unavailable
from stargate.extents import format as ef
from stargate.extents import nodes
from stargate.extents.egroups import FOLDER, HEAD_BYTES, EgroupFiles
from stargate.extents.index import Change, Freed, Index, Location, in_batches
from stargate.fs.disk import Disk


class Waiting(NamedTuple):
    """A sound node whose children are looked for."""

    location: Location
    children: list[bytes]


class Scanned(NamedTuple):
    """An extent with a sound header; `plain` are its uncompressed bytes, None when it is torn or damaged."""

    location: Location
    header: ef.ExtentHeader
    plain: bytes | None


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


def rebuild_files(
    files: EgroupFiles, index: Index, store_id: bytes, *, epoch: int = 0, roots: Iterable[bytes] = ()
) -> int:
    """As `rebuild`. The identity is written last: a rebuild that was interrupted is started again at the next open.

    What the trees under `roots` (those of the catalog) name is entered even where it is damaged or something below it
    is missing: it was complete once, and its sound part must stay readable.
    """
    index.clear()
    waiting: dict[bytes, Waiting] = {}
    rotten: dict[bytes, Location] = {}
    empty_bytes = 0
    for egroup in files.numbers():
        found: list[tuple[bytes, Location]] = []
        covered = HEAD_BYTES
        for location, header, plain in scan(files, egroup, store_id, epoch):
            empty_bytes += max(0, location.offset - covered)
            covered = max(covered, _end(location))
            if plain is None:
                rotten[header.digest] = location
            elif header.kind == ef.Kind.CHUNK:
                found.append((header.digest, location))
            else:
                waiting[header.digest] = Waiting(location, nodes.children(header.kind, plain))
        _make_durable(files, [egroup])
        empty_bytes += max(0, files.file(egroup).size() - covered)
        for batch in in_batches(found):
            index.commit(Change(puts=batch))
    _enter_nodes(index, waiting)
    _enter_named(index, waiting, rotten, roots)
    meta = ("epoch", epoch.to_bytes(8, "little")), ("returned_bytes", empty_bytes.to_bytes(8, "little"))
    index.commit(Change(meta=(*meta, ("store_id", store_id))))
    return index.count()


def find(files: EgroupFiles, index: Index, store_id: bytes, wanted: set[bytes], epoch: int) -> set[bytes]:
    """Search the egroups for extents that our trees name and the index does not know (or is wrong about), and enter
    those that are sound; which were found. A place noted as freed is taken off that list: nobody may return it now.
    """
    found: dict[bytes, Location] = {}
    for egroup in files.numbers():
        for location, header, plain in scan(files, egroup, store_id, epoch):
            if header.digest in wanted and plain is not None:
                found[header.digest] = location
    _make_durable(files, {at.egroup for at in found.values()})
    owed = set(index.freed())
    places = (Freed(at.egroup, at.offset, ef.extent_bytes(at.stored_bytes)) for at in found.values())
    index.commit(Change(puts=list(found.items()), returned=[place for place in places if place in owed]))
    return set(found)


def scan(files: EgroupFiles, egroup: int, store_id: bytes, epoch: int) -> Iterator[Scanned]:
    """All extents of a group. Behind one that is not whole the search goes on inside of what it claims to be: a power
    cut may have left the header of a long extent at the end of a short file, and the next store appended there.
    """
    at = HEAD_BYTES
    while (found := files.next_header(egroup, at, store_id)) is not None:
        offset, header = found
        location = _location(egroup, offset, header, epoch)
        plain = _checked(files, location, header)
        yield Scanned(location, header, plain)
        at = _end(location) if plain is not None else ef.aligned(offset + ef.HEADER_BYTES)


def _end(location: Location) -> int:
    return ef.aligned(location.offset + ef.extent_bytes(location.stored_bytes))


def _make_durable(files: EgroupFiles, egroups: Iterable[int]) -> None:
    """Readable is not durable: bytes and names may be in the page cache only, if their writer was killed."""
    for egroup in egroups:
        files.file(egroup).fdatasync()
        files.disk.sync_dir(FOLDER)


def _location(egroup: int, offset: int, header: ef.ExtentHeader, epoch: int) -> Location:
    return Location(
        egroup, offset, header.stored_bytes, header.size_bytes, header.kind, header.codec, header.level, epoch
    )


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


def _enter_nodes(index: Index, waiting: dict[bytes, Waiting]) -> None:
    """Children before parents; a node below which something is missing stays out, because presence means a complete
    subtree.
    """
    for rank in sorted({node.location.rank for node in waiting.values()}):
        ready = [
            (digest, node.location)
            for digest, node in waiting.items()
            if node.location.rank == rank and all(found is not None for found in index.get_many(node.children))
        ]
        for batch in in_batches(ready):
            index.commit(Change(puts=batch))


def _enter_named(
    index: Index, waiting: dict[bytes, Waiting], rotten: dict[bytes, Location], roots: Iterable[bytes]
) -> None:
    """From the roots down: what stayed out although a published version needs it."""
    puts: list[tuple[bytes, Location]] = []
    done: set[bytes] = set()
    stack = list(roots)
    while stack:
        digest = stack.pop()
        if digest in done or index.get(digest) is not None:
            continue  # entered above: whole, with all that is below it
        done.add(digest)
        node = waiting.get(digest)
        if node is not None:
            puts.append((digest, node.location))
            stack += node.children
        elif digest in rotten:
            puts.append((digest, rotten[digest]))
    for batch in in_batches(puts):
        index.commit(Change(puts=batch))
