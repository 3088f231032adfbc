# SPDX-License-Identifier: Apache-2.0
"""Bytes of a region: its header, then batches of header, table and blocks. Pure: no file is touched here.

All integers are little endian. A batch begins at a multiple of 4 KiB, so do its blocks. See docs/formats/hot.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from stargate.catalog.state import BatchRef
from stargate.errors import DamagedData, OperatorError
from stargate.fs.disk import Buffer
from stargate.units import BLOCK_BYTES, MiB

VERSION = 1
"""Of regions."""

BATCH_VERSION = 2
"""Of batches. Version 1 had its head once, and a checksum that did not know its place."""

REGION_BYTES = 64 * MiB
"""Distance of two regions in the space of positions: position = region * REGION_BYTES + offset in the file."""
REGION_HEADER_BYTES = 4096
HEAD_BYTES_MAX = 1 * MiB
"""Largest head of a batch that is looked for: with 1,000 blocks one has some 20 KiB."""

REGION_MAGIC = b"PRISMHOT"
BATCH_MAGIC = b"\xf1HB1"

REGION = struct.Struct("<8sHHIQQI")
BATCH = struct.Struct("<4sHHQQ16sQQIIII")
ZERO_ENTRY = struct.Struct("<QQ")
CHUNK_ENTRY = struct.Struct("<Q32s")
BLOCK_ENTRY = struct.Struct("<QQI")
_PLACE = struct.Struct("<QQ")
_BLOCK_DTYPE = np.dtype([("block", "<u8"), ("source", "<u8"), ("crc", "<u4")])

LAYOUTS: dict[str, tuple[struct.Struct, tuple[str, ...]]] = {
    "region header": (REGION, ("magic", "version", "reserved", "reserved", "region", "incarnation", "crc")),
    "batch header": (
        BATCH,
        (
            "magic", "version", "header bytes", "region", "incarnation", "epoch", "from position", "to position",
            "zero count", "chunk count", "block count", "crc",
        ),
    ),
    "zero entry": (ZERO_ENTRY, ("first block", "block count")),
    "chunk entry": (CHUNK_ENTRY, ("chunk index", "hash")),
    "block entry": (BLOCK_ENTRY, ("block", "source position", "crc")),
}  # fmt: skip
"""Structure -> (struct, field names): what the page docs/formats/hot.md is checked against."""

Block = tuple[int, int, int, Buffer]
"""Block number, log position it was drained from, crc32c, 4 KiB of data."""


class Region(NamedTuple):
    """What a region's header says. `incarnation` counts the uses of the file."""

    region: int
    incarnation: int


class HotTable(NamedTuple):
    """The table of one batch. To be applied in the order zeros (first block, count), chunks (index, hash), blocks.

    The arrays are parallel and sorted by block; `sources` are log positions, `positions` places in the hot tier.
    """

    epoch: str
    from_position: int
    to_position: int
    zeros: list[tuple[int, int]]
    chunks: list[tuple[int, bytes]]
    blocks: NDArray[np.uint64]
    sources: NDArray[np.uint64]
    crcs: NDArray[np.uint32]
    positions: NDArray[np.uint64]


class Window(NamedTuple):
    """What all batches of one `append` have in common."""

    epoch: str
    from_position: int
    to_position: int


class Part(NamedTuple):
    """The entries of one batch."""

    zeros: Sequence[tuple[int, int]]
    chunks: Sequence[tuple[int, bytes]]
    blocks: Sequence[Block]

    @property
    def head_bytes(self) -> int:
        return head_bytes(len(self.zeros), len(self.chunks), len(self.blocks))

    @property
    def size(self) -> int:
        return batch_bytes(len(self.zeros), len(self.chunks), len(self.blocks))


def damaged(region: int, offset: int, reason: str) -> DamagedData:
    return DamagedData(f"hot region {region} is damaged at byte {offset}: {reason}", detail=f"{region}:{offset}")


def head_bytes(zeros: int, chunks: int, blocks: int) -> int:
    """Header and table, padded to whole pages: where the first block of the batch lies."""
    size = BATCH.size + zeros * ZERO_ENTRY.size + chunks * CHUNK_ENTRY.size + blocks * BLOCK_ENTRY.size
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def batch_bytes(zeros: int, chunks: int, blocks: int) -> int:
    """Head, blocks, and the head once more."""
    return 2 * head_bytes(zeros, chunks, blocks) + blocks * BLOCK_BYTES


def _seed(version: int, region: int, offset: int) -> int:
    """Start of a batch's checksum: bytes that were moved from another place never fit."""
    return int(crc32c(_PLACE.pack(region, offset))) if version > 1 else 0


def pack_region(header: Region) -> bytes:
    body = REGION.pack(REGION_MAGIC, VERSION, 0, 0, header.region, header.incarnation, 0)[:-4]
    return body + struct.pack("<I", crc32c(body))


def parse_region(raw: bytes, region: int) -> Region | None:
    """None when the header is torn, damaged or another region's. Raises OperatorError when a newer engine wrote it."""
    if len(raw) < REGION.size or raw[: len(REGION_MAGIC)] != REGION_MAGIC:
        return None
    _, version, _, _, number, incarnation, crc = REGION.unpack_from(raw)
    if crc32c(raw[: REGION.size - 4]) != crc or number != region:
        return None
    if version != VERSION:
        raise OperatorError(
            f"hot region {region} has format {version}, this engine knows {VERSION}; start the newer one"
        )
    return Region(number, incarnation)


def pack_head(header: Region, window: Window, part: Part, offset: int) -> bytes:
    """Header and table of a batch that will lie at `offset`, padded."""
    table = b"".join(
        [
            *(ZERO_ENTRY.pack(*entry) for entry in part.zeros),
            *(CHUNK_ENTRY.pack(*entry) for entry in part.chunks),
            *(BLOCK_ENTRY.pack(block, source, crc) for block, source, crc, _ in part.blocks),
        ]
    )
    head = BATCH.pack(
        BATCH_MAGIC, BATCH_VERSION, BATCH.size, header.region, header.incarnation, UUID(window.epoch).bytes,
        window.from_position, window.to_position, len(part.zeros), len(part.chunks), len(part.blocks), 0,
    )[:-4]  # fmt: skip
    seed = _seed(BATCH_VERSION, header.region, offset)
    raw = head + struct.pack("<I", crc32c(table, crc32c(head, seed))) + table
    return raw.ljust(part.head_bytes, b"\0")


def table_bytes(raw: bytes, header: Region | None, ref: BatchRef) -> int:
    """Bytes of header and table of the batch whose head begins with `raw`.

    Raises DamagedData when it does not match `ref`. Without a readable region `header` the batch's own checksum, which
    knows its place, has to do.
    """
    if len(raw) < BATCH.size:
        raise damaged(ref.region, ref.offset, "the batch is missing")
    magic, version, size, region, incarnation, _, _, _, zeros, chunks, blocks, _ = BATCH.unpack_from(raw)
    if magic != BATCH_MAGIC or version not in (1, BATCH_VERSION) or size != BATCH.size:
        raise damaged(ref.region, ref.offset, "there is no batch")
    length = batch_bytes(zeros, chunks, blocks) - (head_bytes(zeros, chunks, blocks) if version == 1 else 0)
    if header is None and version == 1:
        raise damaged(ref.region, 0, "the header is unreadable")
    if region != ref.region or length != ref.length or (header is not None and (region, incarnation) != header):
        raise damaged(ref.region, ref.offset, "there is another batch than the catalog says")
    return int(size + zeros * ZERO_ENTRY.size + chunks * CHUNK_ENTRY.size + blocks * BLOCK_ENTRY.size)


def copy_offsets(ref: BatchRef) -> range:
    """Where in the file the second copy of a head may begin: its length is known from itself alone."""
    end = ref.offset + ref.length
    return range(end - BLOCK_BYTES, end - min(ref.length // 2, HEAD_BYTES_MAX) - 1, -BLOCK_BYTES)


def parse_head(raw: bytes, ref: BatchRef) -> HotTable:
    """The table of the batch whose header and table are `raw` (as long as `table_bytes` said). Raises DamagedData."""
    _, version, _, _, _, epoch, start, end, zero_count, chunk_count, block_count, crc = BATCH.unpack_from(raw)
    seed = _seed(version, ref.region, ref.offset)
    if crc32c(raw[BATCH.size :], crc32c(raw[: BATCH.size - 4], seed)) != crc:
        raise damaged(ref.region, ref.offset, "the table fails its checksum")
    zeros_end = BATCH.size + zero_count * ZERO_ENTRY.size
    chunks_end = zeros_end + chunk_count * CHUNK_ENTRY.size
    entries = np.frombuffer(raw, dtype=_BLOCK_DTYPE, count=block_count, offset=chunks_end)
    first = ref.region * REGION_BYTES + ref.offset + head_bytes(zero_count, chunk_count, block_count)
    return HotTable(
        str(UUID(bytes=epoch)),
        start,
        end,
        [(first_block, count) for first_block, count in ZERO_ENTRY.iter_unpack(raw[BATCH.size : zeros_end])],
        [(index, digest) for index, digest in CHUNK_ENTRY.iter_unpack(raw[zeros_end:chunks_end])],
        np.ascontiguousarray(entries["block"], dtype=np.uint64),
        np.ascontiguousarray(entries["source"], dtype=np.uint64),
        np.ascontiguousarray(entries["crc"], dtype=np.uint32),
        np.arange(block_count, dtype=np.uint64) * np.uint64(BLOCK_BYTES) + np.uint64(first),
    )
