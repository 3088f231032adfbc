# SPDX-License-Identifier: Apache-2.0
"""The messages between sites (docs/formats/peer-wire.md): one frozen dataclass each. Pure, no I/O.

Decoders check every count, size and value that a peer states; what they return may still lie about content (hashes,
trees), which the receiver proves before it stores.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Protocol, Self

import numpy as np

from stargate.errors import PeerProtocol
from stargate.peer.frame import (
    HASH_BYTES,
    HASHES_MAX,
    ITEM_BYTES_MAX,
    MANIFEST_BYTES_MAX,
    MEMBERS_MAX,
    TEXT_BYTES_MAX,
    Buffer,
    Cursor,
    Header,
    Type,
    check_crc,
    frame,
)
from stargate.peer.items import Fetch as Fetch
from stargate.peer.items import Item as Item
from stargate.peer.items import Items as Items
from stargate.peer.items import Place as Place
from stargate.peer.items import Put as Put
from stargate.peer.items import enum_of
from stargate.peer.items import number as _u
from stargate.units import BLOCK_BYTES, VDISK_BYTES_MAX

PROTOCOL_VERSION = 1
"""What the messages mean; HELLO offers a range, WELCOME picks one."""


class Scope(IntEnum):
    STORE = 0
    """Anything the receiving site holds: global deduplication."""
    SESSION = 1
    """Only nodes that this session itself delivered: resume without asking about foreign content."""


def _uuid(value: str) -> bytes:
    return uuid.UUID(value).bytes


def _text(value: str) -> bytes:
    raw = value.encode("utf-8")[:TEXT_BYTES_MAX].decode("utf-8", "ignore").encode("utf-8")
    return _u(len(raw), 4) + raw


def _hashes(values: Sequence[bytes]) -> bytes:
    return _u(len(values), 4) + b"".join(values)


class Message(Protocol):
    """What all messages share. `encode` gives the payload in pieces, so that big ones are joined once."""

    TYPE: ClassVar[Type]

    def encode(self) -> list[Buffer]: ...

    @classmethod
    def decode(cls, cursor: Cursor) -> Self: ...


@dataclass(frozen=True, slots=True)
class Hello:
    """First request. `site_id` is what the sender calls itself; the certificate decides, and both must agree."""

    TYPE: ClassVar[Type] = Type.HELLO
    version_min: int
    version_max: int
    site_id: str
    session: str

    def encode(self) -> list[Buffer]:
        return [_u(self.version_min, 2), _u(self.version_max, 2), _uuid(self.site_id), _uuid(self.session)]

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        return cls(cursor.number(2), cursor.number(2), cursor.uuid(), cursor.uuid())


@dataclass(frozen=True, slots=True)
class Welcome:
    """Answer to HELLO: the version spoken from now on, and the receiver's limits (never above those of this module)."""

    TYPE: ClassVar[Type] = Type.WELCOME
    version: int
    site_id: str
    put_bytes_max: int
    hashes_max: int

    def encode(self) -> list[Buffer]:
        return [_u(self.version, 2), _uuid(self.site_id), _u(self.put_bytes_max, 4), _u(self.hashes_max, 4)]

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        return cls(cursor.number(2), cursor.uuid(), cursor.number(4), cursor.number(4))


@dataclass(frozen=True, slots=True)
class Member:
    """One disk of the incoming snapshot: its tree root with the two sizes that the root must commit to."""

    disk: str
    root: bytes
    size_bytes: int
    chunk_bytes: int


@dataclass(frozen=True, slots=True)
class Begin:
    """Names the snapshot of the granted session. Without `fingerprinting` nothing about the store will be asked."""

    TYPE: ClassVar[Type] = Type.BEGIN
    session: str
    snapshot: str
    fingerprinting: bool
    members: tuple[Member, ...]
    manifest: bytes

    def encode(self) -> list[Buffer]:
        parts = [_uuid(self.session), _uuid(self.snapshot), _u(self.fingerprinting, 1), _u(len(self.members), 4)]
        parts += [_uuid(m.disk) + m.root + _u(m.size_bytes, 8) + _u(m.chunk_bytes, 4) for m in self.members]
        return [*parts, _u(len(self.manifest), 4), self.manifest]

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        session, snapshot, fingerprinting = cursor.uuid(), cursor.uuid(), cursor.flag()
        members = tuple(_member(cursor) for _ in range(cursor.count(MEMBERS_MAX)))
        if len({m.disk for m in members}) != len(members):
            raise PeerProtocol("the other site names a disk twice in one snapshot")
        return cls(session, snapshot, fingerprinting, members, bytes(cursor.take(cursor.count(MANIFEST_BYTES_MAX))))


def _member(cursor: Cursor) -> Member:
    found = Member(cursor.uuid(), bytes(cursor.take(HASH_BYTES)), cursor.number(8), cursor.number(4))
    if found.size_bytes > VDISK_BYTES_MAX:
        raise PeerProtocol("the other site announces a disk larger than any disk", f"{found.size_bytes} bytes")
    chunk = found.chunk_bytes
    if not BLOCK_BYTES <= chunk <= ITEM_BYTES_MAX or chunk & (chunk - 1):
        raise PeerProtocol("the other site announces a chunk size that does not exist", f"{chunk} bytes")
    return found


@dataclass(frozen=True, slots=True)
class Begun:
    """`published`: the snapshot is here already, nothing is to be done. `fingerprinting`: questions of scope STORE are
    answered.
    """

    TYPE: ClassVar[Type] = Type.BEGUN
    published: bool
    fingerprinting: bool

    def encode(self) -> list[Buffer]:
        return [_u(self.published, 1), _u(self.fingerprinting, 1)]

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        return cls(cursor.flag(), cursor.flag())


@dataclass(frozen=True, slots=True)
class Have:
    """Chunks and nodes alike: their names never collide, for nodes are hashed in a key context of their own."""

    TYPE: ClassVar[Type] = Type.HAVE
    scope: Scope
    hashes: Sequence[bytes]

    def encode(self) -> list[Buffer]:
        return [_u(self.scope, 1), _hashes(self.hashes)]

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        return cls(enum_of(Scope, cursor.number(1)), cursor.hashes())


@dataclass(frozen=True, slots=True)
class HaveReply:
    """One bit per asked hash, least significant first. A node is had only with its complete subtree."""

    TYPE: ClassVar[Type] = Type.HAVE_REPLY
    present: Sequence[bool]

    def encode(self) -> list[Buffer]:
        bits = np.packbits(np.array(self.present, dtype=np.bool_), bitorder="little")
        return [_u(len(self.present), 4), bits.tobytes()]

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        count = cursor.count(HASHES_MAX)
        bits = np.unpackbits(np.frombuffer(cursor.take((count + 7) // 8), np.uint8), bitorder="little")
        if bits[count:].any():
            raise PeerProtocol("the other site answers more than was asked")
        return cls((bits[:count] == 1).tolist())


@dataclass(frozen=True, slots=True)
class PutAck:
    """How many items of the PUT were new here, and how many were there already. Stored, not yet durable."""

    TYPE: ClassVar[Type] = Type.PUT_ACK
    stored: int
    duplicates: int

    def encode(self) -> list[Buffer]:
        return [_u(self.stored, 4), _u(self.duplicates, 4)]

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        return cls(cursor.number(4), cursor.number(4))


@dataclass(frozen=True, slots=True)
class Publish:
    TYPE: ClassVar[Type] = Type.PUBLISH
    snapshot: str

    def encode(self) -> list[Buffer]:
        return [_uuid(self.snapshot)]

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        return cls(cursor.uuid())


@dataclass(frozen=True, slots=True)
class Published:
    """The snapshot is complete, durable and visible at the receiver."""

    TYPE: ClassVar[Type] = Type.PUBLISHED
    snapshot: str

    def encode(self) -> list[Buffer]:
        return [_uuid(self.snapshot)]

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        return cls(cursor.uuid())


@dataclass(frozen=True, slots=True)
class Status:
    """Sign of life while a request takes long; answers nothing."""

    TYPE: ClassVar[Type] = Type.STATUS
    busy_seconds: int

    def encode(self) -> list[Buffer]:
        return [_u(self.busy_seconds, 4)]

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        return cls(cursor.number(4))


@dataclass(frozen=True, slots=True)
class Error:
    """The request failed; `code` is one of stargate.errors. The connection is closed after it."""

    TYPE: ClassVar[Type] = Type.ERROR
    code: str
    message: str

    def encode(self) -> list[Buffer]:
        return [_text(self.code), _text(self.message)]

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        return cls(cursor.text(), cursor.text())


@dataclass(frozen=True, slots=True)
class Ping:
    TYPE: ClassVar[Type] = Type.PING

    def encode(self) -> list[Buffer]:
        return []

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        return cls()


@dataclass(frozen=True, slots=True)
class Pong:
    TYPE: ClassVar[Type] = Type.PONG

    def encode(self) -> list[Buffer]:
        return []

    @classmethod
    def decode(cls, cursor: Cursor) -> Self:
        return cls()


_MESSAGES: tuple[type[Message], ...] = (
    Hello, Welcome, Begin, Begun, Have, HaveReply, Put, PutAck, Publish, Published, Status, Error, Ping, Pong,
    Fetch, Items,
)  # fmt: skip
BY_TYPE: dict[Type, type[Message]] = {message.TYPE: message for message in _MESSAGES}


def encode_frame(message: Message, request: int) -> bytes:
    """The whole frame of a message."""
    return frame(message.TYPE, request, message.encode())


def decode_payload(raw_header: Buffer, header: Header, payload: Buffer) -> Message:
    """The message of a whole frame; raises PeerProtocol when the checksum or any bound fails."""
    check_crc(raw_header, header, payload)
    cursor = Cursor(payload)
    message = BY_TYPE[header.type].decode(cursor)
    cursor.end()
    return message
