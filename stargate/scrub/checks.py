# SPDX-License-Identifier: Apache-2.0
"""What the scrub does with one part of the stored data. Each check gives what is damaged: key -> sentence.

Reads only. `pause(bytes)` is called behind every piece that was read, so that guests come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from stargate.catalog.log import read_catalog
from stargate.catalog.state import BatchRef
from stargate.errors import DamagedData, StargateError
from stargate.extents.format import MissingExtent, extent_bytes
from stargate.extents.index import Location
from stargate.extents.store import ExtentStore
from stargate.fs.disk import Disk
from stargate.hot.format import HotTable
from stargate.hot.regions import HotReader
from stargate.oplog.format import CONTROL, WRITE, LogMark
from stargate.oplog.reader import LogReader
from stargate.oplog.superblock import bad_copies, superblock_copies
from stargate.scrub.places import absent
from stargate.units import BLOCK_BYTES

Found = dict[str, str]
Pause = Callable[[int], None]

EXTENT = "extent:"
HOT = "hot:"


def digest_of(key: str) -> bytes | None:
    """The name of the chunk or node that a finding is about; None for other findings."""
    return bytes.fromhex(key.removeprefix(EXTENT)) if key.startswith(EXTENT) else None


def egroup(extents: ExtentStore, entries: Iterable[tuple[bytes, Location]], pause: Pause) -> Found:
    """Every extent that the index has in one egroup: header, checksums, full hash."""
    found: Found = {}
    for digest, location in entries:
        try:
            extents.verify(digest)
        except MissingExtent as exc:
            if extents.index.get(digest) is not None:
                found[EXTENT + digest.hex()] = f"The index is wrong about an extent: {exc.message}."
        except DamagedData as exc:
            now = extents.index.get(digest)
            if now is not None and now[:2] == location[:2]:
                found[EXTENT + digest.hex()] = f"A stored extent is damaged: {exc.message}."
        pause(extent_bytes(location.stored_bytes))
    return found


def index(extents: ExtentStore, roots: Iterable[bytes], chunks: Iterable[bytes], pause: Pause) -> Found:
    """Every hash that a tree or a hot table names must have an entry."""
    files = set(extents.files.numbers())
    strays = [(digest, at) for digest, at in extents.index.items() if at.egroup not in files]
    found = egroup(extents, strays, pause)
    named = [*absent(extents, roots, pause).places]
    some = list(chunks)
    named += [name for name, at in zip(some, extents.index.get_many(some), strict=True) if at is None]
    return found | {EXTENT + name.hex(): f"A needed extent cannot be found or read: {name.hex()}." for name in named}


def region(
    reader: HotReader, refs: Iterable[BatchRef], read_table: Callable[[BatchRef], HotTable], pause: Pause
) -> Found:
    """Tables and blocks of the batches that the catalog names in one region."""
    found: Found = {}
    for ref in refs:
        try:
            table = read_table(ref)
        except DamagedData as exc:
            found[f"table:{ref.region}:{ref.offset}"] = f"A table of the hot tier is damaged: {exc.message}."
            continue
        for block, position, crc in zip(
            table.blocks.tolist(), table.positions.tolist(), table.crcs.tolist(), strict=True
        ):
            try:
                reader.read(position, BLOCK_BYTES, (crc,))
            except DamagedData as exc:
                found[f"{HOT}{table.epoch}:{block}:{position}"] = f"A block of the hot tier is damaged: {exc.message}."
            pause(BLOCK_BYTES)
    return found


def log(reader: LogReader, start: LogMark, end: int, pause: Pause) -> Found:
    """The undrained log up to a durable position. Raises LogRangeGone: it was released meanwhile, or lost a segment."""
    found: Found = {}
    try:
        for batch in reader.batches(start, end):
            for record in batch.records:
                if record.type in (WRITE, CONTROL):
                    found |= _record(reader, record.position, record.length, record.crcs)
            pause(batch.end - batch.position)
    except DamagedData as exc:
        found["log"] = f"The log is damaged: {exc.message}."
    return found


def superblock(disk: Disk) -> Found:
    """One whole copy is enough, and the next start of the front writes the others; until then further damage may be
    one too many.
    """
    what = "A copy of the log's superblock is missing or damaged; a restart of the front writes it anew."
    bad = bad_copies(superblock_copies(disk, "oplog"))
    if bad:  # or a front started between the looks at its two files
        bad = sorted(set(bad).intersection(bad_copies(superblock_copies(disk, "oplog"))))
    return {f"superblock:{at}": what for at in bad}


def _record(reader: LogReader, position: int, length: int, crcs: Sequence[int]) -> Found:
    found: Found = {}
    size = length if len(crcs) == 1 else BLOCK_BYTES
    for number, crc in enumerate(crcs):
        at = position + number * BLOCK_BYTES
        try:
            reader.read(at, size, (crc,))
        except DamagedData as exc:
            found[f"log:{at}"] = f"A block of the log is damaged: {exc.message}."
    return found


def catalog(disk: Disk) -> Found:
    """The file must read back whole."""
    try:
        read_catalog(disk, "catalog")
    except StargateError as exc:
        return {"catalog": f"The catalog file is damaged: {exc.message}."}
    return {}
