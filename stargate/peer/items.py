# SPDX-License-Identifier: Apache-2.0
"""Chunks and nodes as they travel: PUT (the sender brings them), FETCH and ITEMS (a peer reads back what is shared).

Pure. A decoder bounds every count and size before it takes bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, NamedTuple, Self, TypeVar

from stargate.errors import PeerProtocol
from stargate.extents.format import Codec, Kind
from stargate.peer.frame import (
    FETCH_PLACES_MAX,
    HASH_BYTES,
    ITEM_BYTES_MAX,
    PUT_ITEMS_MAX,
    Buffer,
    Cursor,
    Type,
)

E = TypeVar("E", bound=IntEnum)

RANK_ROOT = 255
"""`rank` of a place: 0 chunk, 1 leaf, n + 1 node of level n, this the root itself."""

_ITEM = struct.Struct("<BB32sII")
_PLACE = struct.Struct("<BQ")


def number(value: int, width: int) -> bytes:
    return value.to_bytes(width, "little")


def enum_of(enum: type[E], value: int) -> E:
    """Raises PeerProtocol for a value that is none."""
    try:
        return enum(value)
    except ValueError as exc:
        raise PeerProtocol("the other site sent a value that is unknown here", f"{enum.__name__} {value}") from exc


class Item(NamedTuple):
    """A chunk or node as it travels: `usize` bytes that hash to `hash`, packed by `codec` into `payload`."""

    kind: Kind
    hash: bytes
    codec: Codec
    usize: int
    payload: Buffer


def _encode(items: Sequence[Item]) -> list[Buffer]:
    table = [_ITEM.pack(i.kind, i.codec, i.hash, i.usize, len(i.payload)) for i in items]
    return [number(len(table), 4), *table, *(i.payload for i in items)]


def _decode(cursor: Cursor) -> list[Item]:
    rows = [_ITEM.unpack(cursor.take(_ITEM.size)) for _ in range(cursor.count(PUT_ITEMS_MAX))]
    return [_item(cursor, row) for row in rows]


def _item(cursor: Cursor, row: tuple[int, int, bytes, int, int]) -> Item:
    kind, codec, name, usize, length = row
    if not 0 < usize <= ITEM_BYTES_MAX or not 0 < length <= usize:
        raise PeerProtocol("the other site sends an item of a size that does not exist", f"{length} for {usize} bytes")
    return Item(enum_of(Kind, kind), name, enum_of(Codec, codec), usize, cursor.take(length))


@dataclass(frozen=True, slots=True)
class Put:
    """Items in the order in which they must be stored: children before their node."""

    TYPE: ClassVar[Type] = Type.PUT
    items: Sequence[Item]

    def encode(self) -> list[Buffer]:
        return _encode(self.items)

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        return cls(_decode(cursor))


class Place(NamedTuple):
    """One item of a tree: the `at`th of its `rank`, counted from the start of the disk."""

    rank: int
    at: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read back places of a tree that both sites share. No hash is asked for, so nothing can be probed."""

    TYPE: ClassVar[Type] = Type.FETCH
    root: bytes
    places: Sequence[Place]

    def encode(self) -> list[Buffer]:
        return [self.root, number(len(self.places), 4), *(_PLACE.pack(*place) for place in self.places)]

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        root = bytes(cursor.take(HASH_BYTES))
        count = cursor.count(FETCH_PLACES_MAX)
        return cls(root, [Place(*_PLACE.unpack(cursor.take(_PLACE.size))) for _ in range(count)])


@dataclass(frozen=True, slots=True)
class Items:
    """What was read back, as far as it is whole here and fits; the hashes tell which. The asker asks again for more."""

    TYPE: ClassVar[Type] = Type.ITEMS
    items: Sequence[Item]

    def encode(self) -> list[Buffer]:
        return _encode(self.items)

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        return cls(_decode(cursor))
