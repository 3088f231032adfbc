# SPDX-License-Identifier: Apache-2.0
"""A small synchronous NBD client: image import and export, and the stamped writers of the tests.

One socket, one thread, up to `depth` requests in flight. `submit_*` returns a cookie at once, `wait` gives its result;
the plain methods are the two together. What the server sends is hostile until checked: every length is compared with
what was asked before anything is read or allocated.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO

from stargate.nbd import wire
from stargate.nbd.exports import Buffer
from stargate.nbd.link import MAX_REPLY_BYTES, Link, NbdDisconnected, NbdRequestFailed, negotiate
from stargate.units import MiB

COPY_BYTES = MiB
DEPTH = 16
_JOIN_BYTES = 16 * 1024  # below this copying is cheaper than a second system call
_ZEROES = bytes(COPY_BYTES)


@dataclass(slots=True)
class _Request:
    """In flight, or answered and not yet asked for."""

    command: int
    offset: int
    length: int
    data: bytearray | None = None
    received: int = 0
    extents: list[tuple[int, int]] = field(default_factory=list)
    errno: int = 0
    done: bool = False


class NbdClient:
    """Use `NbdClient.tcp` or `NbdClient.unix`, best as a context manager. Not for several threads at once.

    `size_bytes`, `read_only`, `structured` and `flags` (transmission flags) describe the export as of the connection.
    """

    def __init__(self, sock: socket.socket, export: str, *, structured: bool = True, depth: int = DEPTH) -> None:
        self._link = Link(sock)
        self._requests: dict[int, _Request] = {}
        self._unanswered = 0
        self._last_cookie = 0
        self._depth = depth
        try:
            agreed = negotiate(self._link, export, structured=structured)
        except BaseException:
            self.abandon()
            raise
        self.structured = agreed.structured
        self.has_status = agreed.status
        self.size_bytes = agreed.size_bytes
        self.flags = agreed.flags

    @classmethod
    def tcp(
        cls, host: str, port: int, export: str, *, structured: bool = True, depth: int = DEPTH, timeout: float = 30.0
    ) -> NbdClient:
        """`timeout` seconds bound the connecting and each wait for bytes. Raises NbdDisconnected, NbdRefused."""
        try:
            sock = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise NbdDisconnected(f"no NBD server at {host}:{port}: {error}") from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock, export, structured=structured, depth=depth)

    @classmethod
    def unix(
        cls, path: str, export: str, *, structured: bool = True, depth: int = DEPTH, timeout: float = 30.0
    ) -> NbdClient:
        """As `tcp`, over a unix socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect(path)
        except OSError as error:
            sock.close()
            raise NbdDisconnected(f"no NBD server at {path}: {error}") from error
        return cls(sock, export, structured=structured, depth=depth)

    @property
    def read_only(self) -> bool:
        return bool(self.flags & wire.EXPORT_READ_ONLY)

    def __enter__(self) -> NbdClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Says goodbye and closes. Requests without an answer are forgotten; does not flush."""
        with contextlib.suppress(NbdDisconnected):
            self._link.send(wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, wire.CMD_DISC, bytes(8), 0, 0), self._receive)
        self.abandon()

    def abandon(self) -> None:
        """Closes without a word, as a crashed client would."""
        self._link.close()

    # One request after the other

    def read(self, offset: int, length: int) -> bytes:
        """Raises NbdRequestFailed, NbdDisconnected, NbdProtocolError, as all of these do."""
        return bytes(self._wait(self.submit_read(offset, length)).data or b"")

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> None:
        self.wait(self.submit_write(offset, data, fua=fua))

    def flush(self) -> None:
        """Returns when every write answered before, on any connection, is durable."""
        self.wait(self.submit(wire.CMD_FLUSH, 0, 0))

    def trim(self, offset: int, length: int, *, fua: bool = False) -> None:
        self.wait(self.submit(wire.CMD_TRIM, offset, length, wire.CMD_FLAG_FUA if fua else 0))

    def write_zeroes(
        self, offset: int, length: int, *, no_hole: bool = False, fast: bool = False, fua: bool = False
    ) -> None:
        flags = wire.CMD_FLAG_NO_HOLE if no_hole else 0
        flags |= wire.CMD_FLAG_FAST_ZERO if fast else 0
        flags |= wire.CMD_FLAG_FUA if fua else 0
        self.wait(self.submit(wire.CMD_WRITE_ZEROES, offset, length, flags))

    def block_status(self, offset: int, length: int, *, one: bool = False) -> list[tuple[int, int]]:
        """(length, STATE_HOLE | STATE_ZERO) from `offset`; may describe less than `length`, never nothing."""
        flags = wire.CMD_FLAG_REQ_ONE if one else 0
        return self._wait(self.submit(wire.CMD_BLOCK_STATUS, offset, length, flags)).extents

    # Many at once

    def submit_read(self, offset: int, length: int) -> int:
        return self.submit(wire.CMD_READ, offset, length)

    def submit_write(self, offset: int, data: Buffer, *, fua: bool = False) -> int:
        return self.submit(wire.CMD_WRITE, offset, len(data), wire.CMD_FLAG_FUA if fua else 0, data)

    def submit(self, command: int, offset: int, length: int, flags: int = 0, data: Buffer = b"") -> int:
        """Sends a request (the server judges it), waiting while `depth` are open; returns its cookie."""
        while self._unanswered >= self._depth:
            self._receive()
        self._last_cookie += 1
        cookie = self._last_cookie
        request = _Request(command, offset, length)
        self._requests[cookie] = request
        self._unanswered += 1
        header = wire.REQUEST.pack(wire.REQUEST_MAGIC, flags, command, cookie.to_bytes(8, "big"), offset, length)
        if len(data) > _JOIN_BYTES:
            self._link.send(header, self._receive)
            self._link.send(data, self._receive)
        else:
            self._link.send(header + data, self._receive)
        return cookie

    def wait(self, cookie: int) -> bytes:
        """The bytes of a READ, nothing for others. Raises the request's error. Each cookie can be waited for once."""
        return bytes(self._wait(cookie).data or b"")

    def done(self, cookie: int) -> bool:
        """Whether `wait` would return at once."""
        return self._requests[cookie].done

    def _wait(self, cookie: int) -> _Request:
        request = self._requests[cookie]
        while not request.done:
            self._receive()
        del self._requests[cookie]
        if request.errno:
            raise NbdRequestFailed(
                f"command {request.command} at {request.offset}+{request.length}: error {request.errno}", request.errno
            )
        return request

    # Images

    def copy_in(self, source: BinaryIO, *, progress: Callable[[int], None] | None = None) -> int:
        """Writes `source` from offset 0 up to its end, zeroes without sending them, and flushes. Returns the bytes.

        `progress` gets the bytes handed over so far. Raises NbdRequestFailed (ENOSPC) if `source` exceeds the disk.
        """
        offset = 0
        pending: list[int] = []
        while True:
            data = source.read(COPY_BYTES)
            if not data:
                break
            if self.flags & wire.EXPORT_SEND_WRITE_ZEROES and data == _ZEROES[: len(data)]:
                pending.append(self.submit(wire.CMD_WRITE_ZEROES, offset, len(data)))
            else:
                pending.append(self.submit_write(offset, data))
            offset += len(data)
            while len(pending) > self._depth:
                self.wait(pending.pop(0))
            if progress is not None:
                progress(offset)
        for cookie in pending:
            self.wait(cookie)
        self.flush()
        return offset

    def copy_out(self, target: BinaryIO, *, sparse: bool = False, progress: Callable[[int], None] | None = None) -> int:
        """Writes the whole disk to `target` in order. Returns the bytes.

        `sparse`: `target` is seekable and empty, so zeroes are skipped over; at the end it is truncated to size.
        """
        pending: list[tuple[int | None, int]] = []
        offset = 0
        while offset < self.size_bytes or pending:
            while offset < self.size_bytes and len(pending) < self._depth:
                length, zero = self._next_extent(offset)
                for at in range(offset, offset + length, COPY_BYTES):
                    size = min(COPY_BYTES, offset + length - at)
                    pending.append((None if zero else self.submit_read(at, size), size))
                offset += length
            while pending and (len(pending) >= self._depth or offset >= self.size_bytes):
                cookie, size = pending.pop(0)
                self._put(target, _ZEROES[:size] if cookie is None else self.wait(cookie), sparse and cookie is None)
            if progress is not None:
                progress(offset)
        if sparse:
            target.truncate(self.size_bytes)
        return self.size_bytes

    def _next_extent(self, offset: int) -> tuple[int, bool]:
        """(length, reads as zeroes) of a stretch of at most `depth` copy steps."""
        length = min(self._depth * COPY_BYTES, self.size_bytes - offset)
        if not self.has_status:
            return length, False
        size, state = self.block_status(offset, length)[0]
        return min(size, length), bool(state & wire.STATE_ZERO)

    @staticmethod
    def _put(target: BinaryIO, data: bytes, skip: bool) -> None:
        if skip:
            target.seek(len(data), 1)
        else:
            target.write(data)

    # Receiving

    def _receive(self) -> None:
        """One reply or one chunk of a reply."""
        (magic,) = wire.U32.unpack(self._link.exactly(4))
        if magic == wire.SIMPLE_REPLY_MAGIC:
            rest = self._link.exactly(12)
            request = self._find(rest[4:])
            (request.errno,) = wire.U32.unpack_from(rest)
            if request.command == wire.CMD_READ and not request.errno:
                if self.structured:
                    raise self._link.bad("simple reply to a READ although structured replies were agreed")
                request.data = bytearray(request.length)
                self._link.into(memoryview(request.data))
                request.received = request.length
            self._finish(request)
        elif magic == wire.CHUNK_MAGIC and self.structured:
            self._chunk()
        else:
            raise self._link.bad(f"not a reply: magic {magic:#x}")

    def _find(self, cookie: bytes) -> _Request:
        request = self._requests.get(int.from_bytes(cookie, "big"))
        if request is None or request.done:
            raise self._link.bad("reply to a request that was never made")
        return request

    def _finish(self, request: _Request) -> None:
        if not request.errno:
            if request.command == wire.CMD_READ and request.received != request.length:
                raise self._link.bad("a READ was answered with too few bytes")
            if request.command == wire.CMD_BLOCK_STATUS and not request.extents:
                raise self._link.bad("BLOCK_STATUS was answered with nothing")
        request.done = True
        self._unanswered -= 1

    def _chunk(self) -> None:
        flags, kind = wire.U16.unpack(self._link.exactly(2))[0], wire.U16.unpack(self._link.exactly(2))[0]
        request = self._find(self._link.exactly(8))
        (length,) = wire.U32.unpack(self._link.exactly(4))
        if kind == wire.CHUNK_OFFSET_DATA and request.command == wire.CMD_READ:
            self._data_chunk(request, length)
        elif length > MAX_REPLY_BYTES:
            raise self._link.bad(f"a chunk of {length} bytes")
        else:
            self._small_chunk(request, kind, self._link.exactly(length))
        if flags & wire.CHUNK_FLAG_DONE:
            self._finish(request)

    def _data_chunk(self, request: _Request, length: int) -> None:
        at = int.from_bytes(self._link.exactly(8), "big") - request.offset if length > 8 else -1
        size = length - 8
        if at < 0 or at + size > request.length or request.received + size > request.length:
            raise self._link.bad("data outside of what was asked")
        if request.data is None:
            request.data = bytearray(request.length)
        self._link.into(memoryview(request.data)[at : at + size])
        request.received += size

    def _small_chunk(self, request: _Request, kind: int, body: bytes) -> None:
        if kind & wire.CHUNK_ERROR_BIT:
            if len(body) < wire.ERROR_CHUNK.size:
                raise self._link.bad("an error chunk that is too short")
            request.errno = wire.ERROR_CHUNK.unpack_from(body)[0] or wire.EIO
        elif kind == wire.CHUNK_OFFSET_HOLE and request.command == wire.CMD_READ and len(body) == 12:
            at = int.from_bytes(body[:8], "big") - request.offset
            (size,) = wire.U32.unpack_from(body, 8)
            if at < 0 or at + size > request.length or request.received + size > request.length:
                raise self._link.bad("a hole outside of what was asked")
            request.data = request.data or bytearray(request.length)
            request.received += size
        elif kind == wire.CHUNK_BLOCK_STATUS and request.command == wire.CMD_BLOCK_STATUS and len(body) % 8 == 4:
            request.extents.extend(wire.EXTENT.iter_unpack(body[4:]))
            if any(size == 0 for size, _ in request.extents):
                raise self._link.bad("an empty extent")
        elif kind != wire.CHUNK_NONE or body:
            raise self._link.bad(f"chunk of type {kind} does not fit its request")
