# SPDX-License-Identifier: Apache-2.0
"""Bytes of one extent: header, checksum table, payload (docs/formats/extents.md). Pure functions; every length is
checked before use.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import lz4.block  # type: ignore[import-untyped]
import zstandard
from blake3 import blake3
from crc32c import crc32c

from stargate import checksum
from stargate.errors import DamagedData, InvalidArgument, StargateError, Unavailable
from stargate.fs.disk import Buffer
from stargate.units import BLOCK_BYTES, MiB

HASH_BYTES = 32
ZERO_HASH = bytes(HASH_BYTES)
"""Name of a hole: an all-zero chunk and an all-zero subtree alike. Nothing is ever stored under it."""

CHUNK_BYTES_MAX = 1 * MiB
NODE_BYTES_MAX = 8 + 1024 * HASH_BYTES
"""Largest node payload: the 8-byte prefix and the widest fan-out."""

EXTENT_ALIGN = 64
"""Extents start at multiples of this, so that a scan finds the next one behind damage."""

_ZEROS = bytes(CHUNK_BYTES_MAX)
_NODE_CONTEXT = "prism-dr stargate 2026 tree node v1"
MAGIC = b"PXT1"
_VERSION = 1
_HEAD = struct.Struct("<4sBBBBII32s")
_CRC = struct.Struct("<I")
_TABLES = [struct.Struct(f"<{count}I") for count in range(CHUNK_BYTES_MAX // BLOCK_BYTES + 1)]
_SEED = struct.Struct("<16sII")
HEADER_BYTES = _HEAD.size + _CRC.size


class Kind(IntEnum):
    """What an extent holds."""

    CHUNK = 0
    LEAF = 1
    INNER = 2
    ROOT = 3


class Codec(IntEnum):
    """How the payload is stored."""

    RAW = 0
    LZ4 = 1
    ZSTD = 2


_KINDS, _CODECS = frozenset(Kind), frozenset(Codec)


class DamagedExtent(DamagedData):
    """The stored bytes of one chunk or node fail. `digest` is its name: what the healer asks for; empty: unknown."""

    def __init__(self, message: str, detail: str = "", *, digest: bytes = b"") -> None:
        super().__init__(message, detail)
        self.digest = digest


class MissingExtent(DamagedExtent):
    """A hash that something refers to is not in the index, or the index is wrong about it. The index is only a cache:
    search the extent groups before believing it is gone.
    """


class MissingChild(StargateError):
    """A node was offered before its children: presence must mean a complete subtree. Send the children first.

    `digest` is the child's name; empty: unknown.
    """

    code = "missing_child"

    def __init__(self, message: str, detail: str = "", *, digest: bytes = b"") -> None:
        super().__init__(message, detail)
        self.digest = digest


class StoreFrozen(Unavailable):
    """An fsync or the index failed: nothing more is written until the process starts again. Reads go on."""


class ExtentHeader(NamedTuple):
    """`stored_bytes` are on disk, `size_bytes` after decompression; `crcs` has one little-endian CRC32C per 4 KiB of
    the stored bytes.
    """

    kind: int
    codec: int
    level: int
    size_bytes: int
    stored_bytes: int
    digest: bytes
    crcs: bytes


def chunk_hash(data: Buffer) -> bytes:
    """Name of a chunk: BLAKE3-256 of its uncompressed bytes."""
    return blake3(data).digest()


def node_hash(payload: Buffer) -> bytes:
    """Name of a node. The key context keeps the name spaces apart: a chunk with the same bytes has another name."""
    return blake3(payload, derive_key_context=_NODE_CONTEXT).digest()


def digest_of(kind: int, payload: Buffer) -> bytes:
    return chunk_hash(payload) if kind == Kind.CHUNK else node_hash(payload)


def check_size(kind: int, size_bytes: int) -> None:
    """Refuse an uncompressed size that no extent of this kind has, before anything of that size is allocated."""
    if kind == Kind.CHUNK:
        good = 0 < size_bytes <= CHUNK_BYTES_MAX and size_bytes % BLOCK_BYTES == 0
    else:
        good = 0 < size_bytes <= NODE_BYTES_MAX
    if not good:
        raise InvalidArgument(f"an extent of kind {kind} cannot have {size_bytes} bytes")


class _Own(threading.local):
    """Of each thread: making a zstd context costs a third of what it does for a chunk."""

    def __init__(self) -> None:
        self.zstd = zstandard.ZstdDecompressor()


_own = _Own()


def encode(data: bytes, compress: bool) -> tuple[int, bytes]:
    """Codec and payload to store: LZ4 only when it saves a quarter, so that most guest reads need no decompression."""
    if compress:
        packed: bytes = lz4.block.compress(data, store_size=False)
        if len(packed) * 4 <= len(data) * 3:
            return Codec.LZ4, packed
    return Codec.RAW, data


def decode(codec: int, payload: bytes, size_bytes: int) -> bytes:
    """Uncompressed bytes, never more than `size_bytes` allocated. Raises DamagedData when the payload is not exactly
    that long.
    """
    try:
        data = _decode(codec, payload, size_bytes)
    except (lz4.block.LZ4BlockError, zstandard.ZstdError, ValueError) as exc:
        raise DamagedData("a compressed extent cannot be read", str(exc)) from exc
    if len(data) != size_bytes:
        raise DamagedData(f"an extent holds {len(data)} bytes instead of {size_bytes}")
    return data


def _decode(codec: int, payload: bytes, size_bytes: int) -> bytes:
    if codec == Codec.RAW:
        return payload
    if codec == Codec.LZ4:
        plain: bytes = lz4.block.decompress(payload, uncompressed_size=size_bytes)
        return plain
    if codec != Codec.ZSTD:
        raise ValueError(f"unknown codec {codec}")
    # The binding ignores its output limit when the frame states a size, so the stated size is compared first.
    if zstandard.get_frame_parameters(payload).content_size != size_bytes:
        raise ValueError("a zstd frame does not state the size of the extent")
    return _own.zstd.decompress(payload, max_output_size=size_bytes, allow_extra_data=False)


def block_crcs(payload: Buffer) -> bytes:
    """One CRC32C per 4 KiB of the stored bytes (the last may be shorter)."""
    return pack_crcs(checksum.block_crcs(payload))


def pack_crcs(crcs: Sequence[int]) -> bytes:
    """The checksum table of an extent."""
    return _TABLES[len(crcs)].pack(*crcs)


def check_blocks(data: bytes, crcs: bytes, first: int) -> bool:
    """Whether `data`, which starts at block `first` of a payload, matches the payload's checksums."""
    count = -(-len(data) // BLOCK_BYTES)
    if count == 1:
        return bool(crc32c(data) == _CRC.unpack_from(crcs, first * 4)[0])
    return block_crcs(data) == crcs[first * 4 : (first + count) * 4]


def table_bytes(stored_bytes: int) -> int:
    return -(-stored_bytes // BLOCK_BYTES) * _CRC.size


def extent_bytes(stored_bytes: int) -> int:
    """Bytes from the start of an extent to the end of its payload, without padding."""
    return HEADER_BYTES + table_bytes(stored_bytes) + stored_bytes


def aligned(offset: int) -> int:
    return -(-offset // EXTENT_ALIGN) * EXTENT_ALIGN


def _seed(store_id: bytes, egroup: int, offset: int) -> int:
    return int(crc32c(_SEED.pack(store_id, egroup, offset)))


def pack_header(header: ExtentHeader, store_id: bytes, egroup: int, offset: int) -> bytes:
    """Header and checksum table. Its CRC is seeded with the place, so that bytes a guest wrote into a chunk can never
    pass for an extent.
    """
    head = _HEAD.pack(
        MAGIC, _VERSION, header.kind, header.codec, header.level, header.size_bytes, header.stored_bytes, header.digest
    )
    crc = crc32c(header.crcs, crc32c(head, _seed(store_id, egroup, offset)))
    return head + _CRC.pack(crc) + header.crcs


def looks_like_header(data: bytes) -> bool:
    return data[:4] == MAGIC


def stored_size(data: bytes) -> int:
    """Payload bytes that an unverified header declares; bounded. Raises DamagedData when no header can say that."""
    if len(data) < HEADER_BYTES or not looks_like_header(data):
        raise DamagedData("no extent header here")
    _, version, kind, codec, _, size_bytes, stored_bytes, _ = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise DamagedData(f"extent format {version} is unknown to this engine")
    bound = CHUNK_BYTES_MAX if kind == Kind.CHUNK else NODE_BYTES_MAX
    if kind > Kind.ROOT or codec > Codec.ZSTD or not 0 < size_bytes <= bound or not 0 < stored_bytes <= size_bytes:
        raise DamagedData("an extent header is out of bounds")
    return int(stored_bytes)


def parse_header(data: bytes, store_id: bytes, egroup: int, offset: int) -> ExtentHeader:
    """The verified header at the start of `data`. Raises DamagedData."""
    stored_bytes = stored_size(data)
    end = HEADER_BYTES + table_bytes(stored_bytes)
    if len(data) < end:
        raise DamagedData("an extent header is cut off")
    crcs = bytes(data[HEADER_BYTES:end])
    crc = crc32c(crcs, crc32c(data[: _HEAD.size], _seed(store_id, egroup, offset)))
    if crc != _CRC.unpack_from(data, _HEAD.size)[0]:
        raise DamagedData("an extent header fails its checksum")
    _, _, kind, codec, level, size_bytes, _, digest = _HEAD.unpack_from(data)
    return ExtentHeader(kind, codec, level, size_bytes, stored_bytes, digest, crcs)


def is_zero(data: Buffer) -> bool:
    """Whether all bytes of a chunk are zero; cheap for data that is not."""
    if any(data[:16]):
        return False
    return bytes(data) == _ZEROS[: len(data)]


def check_foreign(kind: int, digest: bytes, codec: int, payload: bytes, size_bytes: int) -> bytes:
    """Uncompressed bytes of what a peer sent; sizes are compared before anything is decompressed."""
    if kind not in _KINDS or codec not in _CODECS:
        raise DamagedData(f"unknown kind {kind} or codec {codec}")
    check_size(kind, size_bytes)
    if len(payload) > size_bytes or (codec == Codec.RAW and len(payload) != size_bytes):
        raise DamagedData(f"{len(payload)} bytes were sent for an extent of {size_bytes}")
    plain = decode(codec, payload, size_bytes)
    if digest_of(kind, plain) != digest:
        raise DamagedData(f"the bytes do not have the hash {digest.hex()}")
    if kind == Kind.CHUNK and is_zero(plain):
        raise DamagedData("a chunk of zeros is a hole and must be sent as one")
    return plain
