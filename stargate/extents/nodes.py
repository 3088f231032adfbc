# SPDX-License-Identifier: Apache-2.0
"""Payloads of tree nodes and roots (docs/formats/tree.md). Pure; bytes from disk or peer are checked against every
bound.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stargate.errors import DamagedData, InvalidArgument
from stargate.extents.format import CHUNK_BYTES_MAX, HASH_BYTES, ZERO_HASH, Kind, MissingChild
from stargate.units import BLOCK_BYTES, CHUNK_BYTES, VDISK_BYTES_MAX

FANOUT = 256
FANOUT_MAX = 1024

_NODE = struct.Struct("<2sBBI")
_NODE_MAGIC = b"PN"
_ROOT = struct.Struct("<4sHBBQII32s")
_ROOT_MAGIC = b"PRT1"
_VERSION = 1
PREFIX_BYTES = _NODE.size


@dataclass(frozen=True, slots=True)
class TreeFormat:
    """Shape of a version's tree; two trees are comparable when chunk size and fan-out are equal. Raises
    InvalidArgument.
    """

    size_bytes: int
    chunk_bytes: int = CHUNK_BYTES
    fanout: int = FANOUT

    def __post_init__(self) -> None:
        if not 0 <= self.size_bytes <= VDISK_BYTES_MAX:
            raise InvalidArgument(f"a vDisk has 0 to {VDISK_BYTES_MAX} bytes, not {self.size_bytes}")
        if not BLOCK_BYTES <= self.chunk_bytes <= CHUNK_BYTES_MAX or self.chunk_bytes & (self.chunk_bytes - 1):
            raise InvalidArgument(
                f"a chunk is a power of two from {BLOCK_BYTES} to {CHUNK_BYTES_MAX} bytes, not {self.chunk_bytes}"
            )
        if not 2 <= self.fanout <= FANOUT_MAX:
            raise InvalidArgument(f"the fan-out is 2 to {FANOUT_MAX}, not {self.fanout}")

    @property
    def chunk_count(self) -> int:
        return -(-self.size_bytes // self.chunk_bytes)

    @property
    def depth(self) -> int:
        """Levels of nodes, 1 = a single leaf. Fixed by the size."""
        depth, span = 1, self.fanout
        while span < self.chunk_count:
            depth, span = depth + 1, span * self.fanout
        return depth

    def resized(self, size_bytes: int) -> TreeFormat:
        return TreeFormat(size_bytes, self.chunk_bytes, self.fanout)


def span(fanout: int, level: int) -> int:
    """Chunks below a node of `level` (0 = leaf)."""
    return int(fanout ** (level + 1))


def pack_node(level: int, fanout: int, hashes: bytes | bytearray) -> bytes:
    """Payload of a node. The level is part of the bytes, hence of the hash: a node cannot be used at another depth."""
    return _NODE.pack(_NODE_MAGIC, _VERSION, level, fanout) + hashes


def parse_node(payload: bytes) -> tuple[int, int]:
    """Level and fan-out of a node whose length is right. Raises DamagedData."""
    if len(payload) < PREFIX_BYTES:
        raise DamagedData("a tree node is cut off")
    magic, version, level, fanout = _NODE.unpack_from(payload)
    if magic != _NODE_MAGIC or version != _VERSION:
        raise DamagedData("a tree node has an unknown format")
    if not 2 <= fanout <= FANOUT_MAX or len(payload) != PREFIX_BYTES + fanout * HASH_BYTES:
        raise DamagedData(f"a tree node of fan-out {fanout} has {len(payload)} bytes")
    return level, fanout


def pack_root(fmt: TreeFormat, top: bytes) -> bytes:
    return _ROOT.pack(_ROOT_MAGIC, _VERSION, fmt.depth, 0, fmt.size_bytes, fmt.chunk_bytes, fmt.fanout, top)


def parse_root(payload: bytes) -> tuple[TreeFormat, bytes]:
    """Shape and top hash. Raises DamagedData, also when the depth is not the one the size demands."""
    if len(payload) != _ROOT.size:
        raise DamagedData(f"a tree root has {len(payload)} bytes instead of {_ROOT.size}")
    magic, version, depth, zero, size_bytes, chunk_bytes, fanout, top = _ROOT.unpack(payload)
    if magic != _ROOT_MAGIC or version != _VERSION or zero:
        raise DamagedData("a tree root has an unknown format")
    try:
        fmt = TreeFormat(size_bytes, chunk_bytes, fanout)
    except InvalidArgument as exc:
        raise DamagedData("a tree root is out of bounds", exc.message) from exc
    if fmt.depth != depth:
        raise DamagedData(f"a tree root of {size_bytes} bytes claims depth {depth}, not {fmt.depth}")
    return fmt, top


def level_of(kind: int, payload: bytes) -> int:
    """Level of a node payload (0 for a leaf; roots and chunks have none, 0). Raises DamagedData when payload and kind
    disagree.
    """
    if kind == Kind.CHUNK:
        return 0
    if kind == Kind.ROOT:
        parse_root(payload)
        return 0
    level, _ = parse_node(payload)
    if (level == 0) != (kind == Kind.LEAF):
        raise DamagedData(f"a node of level {level} was declared as kind {kind}")
    return level


def children(kind: int, payload: bytes) -> list[bytes]:
    """Hashes that a node refers to, holes left out, each once. `payload` has passed `level_of`."""
    if kind == Kind.CHUNK:
        return []
    if kind == Kind.ROOT:
        top = parse_root(payload)[1]
        return [] if top == ZERO_HASH else [top]
    return new_children(payload, bytes(len(payload)))


def new_children(payload: bytes, base: bytes) -> list[bytes]:
    """Hashes of a leaf or inner node that its base does not have at the same place, holes left out."""
    if len(payload) != len(base):
        raise InvalidArgument("a node and its base have different shapes")
    rows = np.frombuffer(payload, np.uint64) != np.frombuffer(base, np.uint64)
    slots = np.flatnonzero(rows[PREFIX_BYTES // 8 :].reshape(-1, HASH_BYTES // 8).any(axis=1)).tolist()
    places = (PREFIX_BYTES + slot * HASH_BYTES for slot in slots)
    found = dict.fromkeys(payload[at : at + HASH_BYTES] for at in places)
    found.pop(ZERO_HASH, None)
    return list(found)


def child_kind(kind: int, level: int, depth: int = 0) -> tuple[int, int]:
    """Kind and level that the children of a node must have; `depth` is the root's."""
    child_level = depth - 1 if kind == Kind.ROOT else level - 1
    if child_level < 0:
        return Kind.CHUNK, 0
    return (Kind.LEAF if child_level == 0 else Kind.INNER), child_level


def expected_children(kind: int, payload: bytes) -> tuple[int, int]:
    """Kind and level of the children of this verified payload."""
    if kind == Kind.ROOT:
        return child_kind(kind, 0, parse_root(payload)[0].depth)
    return child_kind(kind, parse_node(payload)[0])


class Stored(Protocol):
    """What the index says of an extent."""

    @property
    def kind(self) -> int: ...

    @property
    def level(self) -> int: ...


def check_children(kind: int, payload: bytes, children: Mapping[bytes, Stored | None]) -> None:
    """Raises MissingChild for one that is not stored (None), DamagedData for one of another kind or level."""
    want = expected_children(kind, payload)
    for child, found in children.items():
        if found is None:
            raise MissingChild(f"child {child.hex()} of a node of kind {kind} is not stored", digest=child)
        if (found.kind, found.level) != want:
            raise DamagedData(f"child {child.hex()} has kind {found.kind} level {found.level}, not {want}")
