# SPDX-License-Identifier: Apache-2.0
"""Reading the tables of batches, each of which is stored twice, and writing a damaged copy anew."""

from __future__ import annotations

from contextlib import suppress

from stargate.catalog.state import BatchRef
from stargate.errors import DamagedData
from stargate.fs.disk import Disk, File
from stargate.hot.format import (
    BATCH,
    BATCH_MAGIC,
    REGION_BYTES,
    REGION_HEADER_BYTES,
    HotTable,
    Region,
    copy_offsets,
    damaged,
    head_bytes,
    parse_head,
    parse_region,
    table_bytes,
)
from stargate.units import BLOCK_BYTES


def region_path(path: str, region: int) -> str:
    return f"{path}/r-{region:08d}"


def read_batch_table(disk: Disk, path: str, ref: BatchRef) -> HotTable:
    """The verified table of a catalogued batch, from whichever copy is whole. Raises DamagedData."""
    first, second = read_copies(disk, path, ref)
    if isinstance(first, HotTable):
        return first
    if second is None:
        raise first
    return second[1]


def read_copies(disk: Disk, path: str, ref: BatchRef) -> tuple[HotTable | DamagedData, tuple[int, HotTable] | None]:
    """The table, or why its first copy cannot be used; then, only in that case, offset and table of the second one.

    Raises DamagedData when there is no such place.
    """
    if ref.offset + ref.length > REGION_BYTES or ref.offset < REGION_HEADER_BYTES:
        raise damaged(ref.region, ref.offset, "the catalog's reference leaves the region")
    try:
        file = disk.open(region_path(path, ref.region), read_only=True)
    except FileNotFoundError as exc:
        raise damaged(ref.region, 0, "the file is missing") from exc
    try:
        header = parse_region(file.pread(REGION_HEADER_BYTES, 0), ref.region)
        try:
            return _read_head(file, header, ref, ref.offset), None
        except DamagedData as exc:
            return exc, _second_copy(file, header, ref)
    finally:
        file.close()


def _read_head(file: File, header: Region | None, ref: BatchRef, at: int) -> HotTable:
    raw = file.pread(BLOCK_BYTES, at)
    size = table_bytes(raw, header, ref)
    raw = raw[:size] if size <= len(raw) else file.pread(size, at)
    if len(raw) != size:
        raise damaged(ref.region, at, "the batch is cut short")
    return parse_head(raw, ref)


def _second_copy(file: File, header: Region | None, ref: BatchRef) -> tuple[int, HotTable] | None:
    for at in copy_offsets(ref):
        if file.pread(len(BATCH_MAGIC), at) == BATCH_MAGIC:
            with suppress(DamagedData):
                return at, _read_head(file, header, ref, at)
    return None


def damaged_copy(disk: Disk, path: str, ref: BatchRef) -> tuple[int, int, int] | None:
    """(from, to, bytes): how to restore the one copy of a head that is damaged. None when both are whole, or none is.

    Raises DamagedData when there is no such place.
    """
    first, second = read_copies(disk, path, ref)
    if second is not None:
        return second[0], ref.offset, _head_of(second[1])
    if not isinstance(first, HotTable):
        return None
    file = disk.open(region_path(path, ref.region), read_only=True)
    try:
        header = parse_region(file.pread(REGION_HEADER_BYTES, 0), ref.region)
        if not _has_two(file, ref) or _second_copy(file, header, ref) is not None:
            return None
    finally:
        file.close()
    length = _head_of(first)
    return ref.offset, ref.offset + ref.length - length, length


def restore_head(disk: Disk, path: str, ref: BatchRef) -> bool:
    """Write the damaged copy of a batch's head anew from the whole one; False when there is nothing to do.

    The caller sees to it that the batch is live and that nobody gives its region free meanwhile.
    """
    plan = damaged_copy(disk, path, ref)
    if plan is None:
        return False
    source, target, length = plan
    file = disk.open(region_path(path, ref.region))
    try:
        file.pwritev([file.pread(length, source)], target)
        file.fdatasync()
    finally:
        file.close()
    return True


def _head_of(table: HotTable) -> int:
    return head_bytes(len(table.zeros), len(table.chunks), len(table.blocks))


def _has_two(file: File, ref: BatchRef) -> bool:
    return int(BATCH.unpack_from(file.pread(BATCH.size, ref.offset))[1]) > 1
