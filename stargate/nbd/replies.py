# SPDX-License-Identifier: Apache-2.0
"""What the client has asked and not heard of, and the replies to it, each checked before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass, field

from stargate.nbd import wire
from stargate.nbd.exports import Buffer
from stargate.nbd.link import MAX_REPLY_BYTES, Link


@dataclass(slots=True)
class Request:
    """In flight, or answered and not yet asked for."""

    command: int
    offset: int
    length: int
    flags: int = 0
    payload: Buffer = b""
    data: bytearray | None = None
    received: int = 0
    extents: list[tuple[int, int]] = field(default_factory=list)
    errno: int = 0
    done: bool = False


class Replies:
    """`requests` by cookie, until somebody took their result; `unanswered` of them are in flight."""

    def __init__(self) -> None:
        self.link: Link
        self.structured = False
        self.requests: dict[int, Request] = {}
        self.unanswered = 0

    def receive(self) -> None:
        """One reply or one chunk of a reply."""
        (magic,) = wire.U32.unpack(self.link.exactly(4))
        if magic == wire.SIMPLE_REPLY_MAGIC:
            rest = self.link.exactly(12)
            request = self._find(rest[4:])
            (request.errno,) = wire.U32.unpack_from(rest)
            if request.command == wire.CMD_READ and not request.errno:
                if self.structured:
                    raise self.link.bad("simple reply to a READ although structured replies were agreed")
                request.data = bytearray(request.length)
                self.link.into(memoryview(request.data))
                request.received = request.length
            self._finish(request)
        elif magic == wire.CHUNK_MAGIC and self.structured:
            self._chunk()
        else:
            raise self.link.bad(f"not a reply: magic {magic:#x}")

    def _find(self, cookie: bytes) -> Request:
        request = self.requests.get(int.from_bytes(cookie, "big"))
        if request is None or request.done:
            raise self.link.bad("reply to a request that was never made")
        return request

    def _finish(self, request: Request) -> None:
        if not request.errno:
            if request.command == wire.CMD_READ and request.received != request.length:
                raise self.link.bad("a READ was answered with too few bytes")
            if request.command == wire.CMD_BLOCK_STATUS and not request.extents:
                raise self.link.bad("BLOCK_STATUS was answered with nothing")
        request.done = True
        request.payload = b""
        self.unanswered -= 1

    def _chunk(self) -> None:
        flags, kind = wire.U16.unpack(self.link.exactly(2))[0], wire.U16.unpack(self.link.exactly(2))[0]
        request = self._find(self.link.exactly(8))
        (length,) = wire.U32.unpack(self.link.exactly(4))
        if kind == wire.CHUNK_OFFSET_DATA and request.command == wire.CMD_READ:
            self._data_chunk(request, length)
        elif length > MAX_REPLY_BYTES:
            raise self.link.bad(f"a chunk of {length} bytes")
        else:
            self._small_chunk(request, kind, self.link.exactly(length))
        if flags & wire.CHUNK_FLAG_DONE:
            self._finish(request)

    def _data_chunk(self, request: Request, length: int) -> None:
        at = int.from_bytes(self.link.exactly(8), "big") - request.offset if length > 8 else -1
        size = length - 8
        if at < 0 or at + size > request.length or request.received + size > request.length:
            raise self.link.bad("data outside of what was asked")
        if request.data is None:
            request.data = bytearray(request.length)
        self.link.into(memoryview(request.data)[at : at + size])
        request.received += size

    def _small_chunk(self, request: Request, kind: int, body: bytes) -> None:
        if kind & wire.CHUNK_ERROR_BIT:
            if len(body) < wire.ERROR_CHUNK.size:
                raise self.link.bad("an error chunk that is too short")
            request.errno = wire.ERROR_CHUNK.unpack_from(body)[0] or wire.EIO
        elif kind == wire.CHUNK_OFFSET_HOLE and request.command == wire.CMD_READ and len(body) == 12:
            at = int.from_bytes(body[:8], "big") - request.offset
            (size,) = wire.U32.unpack_from(body, 8)
            if at < 0 or at + size > request.length or request.received + size > request.length:
                raise self.link.bad("a hole outside of what was asked")
            request.data = request.data or bytearray(request.length)
            request.received += size
        elif kind == wire.CHUNK_BLOCK_STATUS and request.command == wire.CMD_BLOCK_STATUS and len(body) % 8 == 4:
            request.extents.extend(wire.EXTENT.iter_unpack(body[4:]))
            if any(size == 0 for size, _ in request.extents):
                raise self.link.bad("an empty extent")
        elif kind != wire.CHUNK_NONE or body:
            raise self.link.bad(f"chunk of type {kind} does not fit its request")
