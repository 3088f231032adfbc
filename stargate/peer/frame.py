# SPDX-License-Identifier: Apache-2.0
"""The frame between sites (docs/formats/peer-wire.md): header, bounds per type, and the cursor that takes payloads
apart. Pure.

Every byte is hostile until checked: `parse_header` refuses a type that is not allowed here, and a length above the
type's bound, before anybody allocates; `Cursor` gives exactly the bytes that a message's counts announce and refuses
the rest.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

import crc32c

from stargate.errors import PeerProtocol
from stargate.units import KiB, MiB

Buffer = bytes | bytearray | memoryview

MAGIC = b"PSPW"
FRAME_VERSION = 1
HEADER = struct.Struct("<4sBBHQI")
HEADER_BYTES = HEADER.size + 4
"""Magic, frame version, type, flags (0), request id, payload length; then crc32c over these and the payload."""

HASH_BYTES = 32
HASHES_MAX = 8192
MEMBERS_MAX = 4096
MANIFEST_BYTES_MAX = 2 * MiB
PUT_BYTES_MAX = 4 * MiB
"""Payload bytes of all items of one PUT."""

PUT_ITEMS_MAX = 4096
ITEM_BYTES_MAX = 1 * MiB
"""Largest chunk or node, before and after decompression."""

FETCH_PLACES_MAX = 1024
TEXT_BYTES_MAX = 2048


class Type(IntEnum):
    HELLO = 1
    WELCOME = 2
    BEGIN = 3
    BEGUN = 4
    HAVE = 5
    HAVE_REPLY = 6
    PUT = 7
    PUT_ACK = 8
    PUBLISH = 9
    PUBLISHED = 10
    STATUS = 11
    ERROR = 12
    PING = 13
    PONG = 14
    FETCH = 15
    ITEMS = 16


LENGTH_MAX: dict[Type, int] = {
    Type.HELLO: 1 * KiB,
    Type.WELCOME: 1 * KiB,
    Type.BEGIN: MANIFEST_BYTES_MAX + 512 * KiB,
    Type.BEGUN: 64,
    Type.HAVE: HASHES_MAX * HASH_BYTES + 64,
    Type.HAVE_REPLY: HASHES_MAX // 8 + 64,
    Type.PUT: PUT_BYTES_MAX + PUT_ITEMS_MAX * 48,
    Type.PUT_ACK: 64,
    Type.PUBLISH: 64,
    Type.PUBLISHED: 64,
    Type.STATUS: 64,
    Type.ERROR: 8 * KiB,
    Type.PING: 64,
    Type.PONG: 64,
    Type.FETCH: FETCH_PLACES_MAX * 9 + 64,
    Type.ITEMS: PUT_BYTES_MAX + PUT_ITEMS_MAX * 48,
}

REQUESTS = frozenset({Type.HELLO, Type.BEGIN, Type.HAVE, Type.PUT, Type.PUBLISH, Type.PING, Type.FETCH})
REPLIES = frozenset(Type) - REQUESTS


class Header(NamedTuple):
    type: Type
    request: int
    length: int
    crc: int


class Cursor:
    """Takes a payload apart; every shortage or surplus is PeerProtocol."""

    def __init__(self, payload: Buffer) -> None:
        self._view = memoryview(payload)
        self._at = 0

    def take(self, length: int) -> memoryview:
        end = self._at + length
        if length < 0 or end > len(self._view):
            raise PeerProtocol("a message from the other site is shorter than it says")
        part = self._view[self._at : end]
        self._at = end
        return part

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def count(self, limit: int) -> int:
        found = self.number(4)
        if found > limit:
            raise PeerProtocol("a message from the other site counts more than allowed", f"{found} > {limit}")
        return found

    def flag(self) -> bool:
        found = self.number(1)
        if found > 1:
            raise PeerProtocol("a message from the other site holds a flag that is neither 0 nor 1")
        return found == 1

    def uuid(self) -> str:
        return str(uuid.UUID(bytes=bytes(self.take(16))))

    def text(self) -> str:
        raw = bytes(self.take(self.count(TEXT_BYTES_MAX)))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise PeerProtocol("a message from the other site holds text that is not UTF-8") from exc

    def hashes(self) -> list[bytes]:
        count = self.count(HASHES_MAX)
        raw = bytes(self.take(count * HASH_BYTES))
        return [raw[i : i + HASH_BYTES] for i in range(0, len(raw), HASH_BYTES)]

    def end(self) -> None:
        if self._at != len(self._view):
            raise PeerProtocol("a message from the other site is longer than it says")


def parse_header(raw: Buffer, allowed: frozenset[Type]) -> Header:
    """Check everything that can be checked before the payload is awaited; raises PeerProtocol."""
    magic, version, code, flags, request, length = HEADER.unpack_from(raw)
    if magic != MAGIC or flags:
        raise PeerProtocol("the other end does not speak the protocol between sites")
    if version != FRAME_VERSION:
        raise PeerProtocol("the other site speaks another frame version; upgrade the older site", f"version {version}")
    if code not in LENGTH_MAX or Type(code) not in allowed:
        raise PeerProtocol("the other site sent a message that is not allowed here", f"type {code}")
    kind = Type(code)
    if length > LENGTH_MAX[kind]:
        raise PeerProtocol("the other site announced a message that is too long", f"{length} bytes of type {code}")
    return Header(kind, request, length, int.from_bytes(raw[HEADER.size : HEADER_BYTES], "little"))


def check_crc(raw_header: Buffer, header: Header, payload: Buffer) -> None:
    """Raises PeerProtocol unless header and payload are those that were sent."""
    if crc32c.crc32c(payload, crc32c.crc32c(memoryview(raw_header)[: HEADER.size])) != header.crc:
        raise PeerProtocol("a message from the other site was damaged on the way")


def frame(code: Type, request: int, parts: Iterable[Buffer]) -> bytes:
    """Header and payload joined once; the caller keeps to the bounds (a peer would refuse it otherwise)."""
    pieces = list(parts)
    head = HEADER.pack(MAGIC, FRAME_VERSION, code, 0, request, sum(len(piece) for piece in pieces))
    crc = crc32c.crc32c(head)
    for piece in pieces:
        crc = crc32c.crc32c(piece, crc)
    return b"".join((head, crc.to_bytes(4, "little"), *pieces))
