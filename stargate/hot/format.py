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

REGION_BYTES = 64 * MiB
"""Distance of two regions in the space of positions: position = region * REGION_BYTES + offset in the file."""
REGION_HEADER_BYTES = 4096

REGION_MAGIC = b"PRISMHOT"
BATCH_MAGIC = b"\xf1HB1"

REGION = struct.Struct("<8sHHIQQI")
BATCH = struct.Struct("<4sHHQQ16sQQIIII")
ZERO_ENTRY = struct.Struct("<QQ")
CHUNK_ENTRY = struct.Struct("<Q32s")
BLOCK_ENTRY = struct.Struct("<QQI")
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
        return self.head_bytes + len(self.blocks) * BLOCK_BYTES


def damaged(region: int, offset: int, reason: str) -> DamagedData:
    return DamagedData(f"hot region {region} is damaged at byte {offset}: {reason}", detail=f"{region}:{offset}")


def head_bytes(zeros: int, chunks: int, blocks: int) -> int:
    """Header and table, padded to whole pages: where the first block of the batch lies."""
    size = BATCH.size + zeros * ZERO_ENTRY.size + chunks * CHUNK_ENTRY.size + blocks * BLOCK_ENTRY.size
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


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


def pack_head(header: Region, window: Window, part: Part) -> bytes:
    """Header and table of a batch, padded."""
    table = b"".join(
        [
            *(ZERO_ENTRY.pack(*entry) for entry in part.zeros),
            *(CHUNK_ENTRY.pack(*entry) for entry in part.chunks),
            *(BLOCK_ENTRY.pack(block, source, crc) for block, source, crc, _ in part.blocks),
        ]
    )
    head = BATCH.pack(
        BATCH_MAGIC, VERSION, BATCH.size, header.region, header.incarnation, UUID(window.epoch).bytes,
        window.from_position, window.to_position, len(part.zeros), len(part.chunks), len(part.blocks), 0,
    )[:-4]  # fmt: skip
    raw = head + struct.pack("<I", crc32c(table, crc32c(head))) + table
    return raw.ljust(part.head_bytes, b"\0")


def table_bytes(raw: bytes, header: Region, ref: BatchRef) -> int:
    """Bytes of header and table of the batch that begins with `raw`.

    Raises DamagedData when it does not match `ref`.
    """
    if len(raw) < BATCH.size:
        raise damaged(ref.region, ref.offset, "the batch is missing")
    magic, version, size, region, incarnation, _, _, _, zeros, chunks, blocks, _ = BATCH.unpack_from(raw)
    if magic != BATCH_MAGIC or version != VERSION or size != BATCH.size:
        raise damaged(ref.region, ref.offset, "there is no batch")
    if (region, incarnation) != header or head_bytes(zeros, chunks, blocks) + blocks * BLOCK_BYTES != ref.length:
        raise damaged(ref.region, ref.offset, "there is another batch than the catalog says")
    return int(size + zeros * ZERO_ENTRY.size + chunks * CHUNK_ENTRY.size + blocks * BLOCK_ENTRY.size)


def parse_head(raw: bytes, ref: BatchRef) -> HotTable:
    """The table of the batch whose header and table are `raw` (as long as `table_bytes` said). Raises DamagedData."""
    _, _, _, _, _, epoch, start, end, zero_count, chunk_count, block_count, crc = BATCH.unpack_from(raw)
    if crc32c(raw[BATCH.size :], crc32c(raw[: BATCH.size - 4])) != crc:
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
