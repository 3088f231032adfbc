# SPDX-License-Identifier: Apache-2.0
"""A small synchronous NBD client: image import and export, and the stamped writers of the tests.

One socket, one thread, up to `depth` requests in flight. `submit_*` returns a cookie at once, `wait` gives its result;
the plain methods are the two together. What the server sends is hostile until checked: every length is compared with
what was asked before anything is read or allocated.

With `reconnect` the client lives through a restart of the server: it connects again and asks again what was not
answered, in order. That is safe because a request asked twice gives the same bytes as one asked once.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO

from stargate.nbd import wire
from stargate.nbd.exports import Buffer
from stargate.nbd.link import Link, NbdDisconnected, NbdRequestFailed, negotiate
from stargate.nbd.replies import Replies, Request
from stargate.units import MiB

COPY_BYTES = MiB
DEPTH = 16
RETRY_SECONDS = 0.1
_JOIN_BYTES = 16 * 1024  # below this copying is cheaper than a second system call
_ZEROES = bytes(COPY_BYTES)


class NbdClient:
    """Use `NbdClient.tcp` or `NbdClient.unix`, best as a context manager. Not for several threads at once.

    `size_bytes`, `read_only`, `structured` and `flags` (transmission flags) describe the export as of the connection.
    """

    def __init__(
        self,
        connect: Callable[[], Link],
        export: str,
        *,
        structured: bool = True,
        depth: int = DEPTH,
        reconnect: float = 0.0,
    ) -> None:
        """`connect` gives a link on which TLS, if any, is still to begin. `reconnect`: seconds to try for when the
        connection is lost."""
        self._connect = connect
        self._export = export
        self._want_structured = structured
        self._patience = reconnect
        self._replies = Replies()
        self._last_cookie = 0
        self._depth = depth
        self._open()

    def _open(self) -> None:
        self._link = self._replies.link = self._connect()
        try:
            agreed = negotiate(self._link, self._export, structured=self._want_structured)
        except BaseException:
            self.abandon()
            raise
        self.structured = self._replies.structured = agreed.structured
        self.has_status = agreed.status
        self.size_bytes = agreed.size_bytes
        self.flags = agreed.flags

    @classmethod
    def tcp(
        cls,
        host: str,
        port: int,
        export: str,
        *,
        tls: ssl.SSLContext | None = None,
        structured: bool = True,
        depth: int = DEPTH,
        timeout: float = 30.0,
        reconnect: float = 0.0,
    ) -> NbdClient:
        """`timeout` seconds bound the connecting and each wait for bytes; `tls` (`stargate.nbd.tls.client_context`)
        insists on TLS. Raises NbdDisconnected, NbdRefused."""

        def connect() -> Link:
            try:
                sock = socket.create_connection((host, port), timeout)
            except OSError as error:
                raise NbdDisconnected(f"no NBD server at {host}:{port}: {error}") from error
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return Link(sock, tls, host)

        return cls(connect, export, structured=structured, depth=depth, reconnect=reconnect)

    @classmethod
    def unix(
        cls,
        path: str,
        export: str,
        *,
        structured: bool = True,
        depth: int = DEPTH,
        timeout: float = 30.0,
        reconnect: float = 0.0,
    ) -> NbdClient:
        """As `tcp`, over a unix socket."""

        def connect() -> Link:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            try:
                sock.connect(path)
            except OSError as error:
                sock.close()
                raise NbdDisconnected(f"no NBD server at {path}: {error}") from error
            return Link(sock)

        return cls(connect, export, structured=structured, depth=depth, reconnect=reconnect)

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
            self._link.send(
                wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, wire.CMD_DISC, bytes(8), 0, 0), self._replies.receive
            )
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
        while self._replies.unanswered >= self._depth:
            self._receive()
        self._last_cookie += 1
        cookie = self._last_cookie
        request = Request(command, offset, length, flags, data)
        self._replies.requests[cookie] = request
        self._replies.unanswered += 1
        try:
            self._transmit(cookie, request)
        except NbdDisconnected as lost:
            self._again(lost)
        return cookie

    def _transmit(self, cookie: int, request: Request) -> None:
        header = wire.REQUEST.pack(
            wire.REQUEST_MAGIC,
            request.flags,
            request.command,
            cookie.to_bytes(8, "big"),
            request.offset,
            request.length,
        )
        if len(request.payload) > _JOIN_BYTES:
            self._link.send(header, self._replies.receive)
            self._link.send(request.payload, self._replies.receive)
        else:
            self._link.send(header + request.payload, self._replies.receive)

    def _again(self, lost: NbdDisconnected) -> None:
        """Connects again and repeats what is not answered; raises `lost` when that does not succeed in time."""
        deadline = time.monotonic() + self._patience
        while self._patience:
            self.abandon()
            try:
                self._open()
                for cookie, request in list(self._replies.requests.items()):
                    if not request.done:
                        request.data, request.received, request.extents, request.errno = None, 0, [], 0
                        self._transmit(cookie, request)
                return
            except NbdDisconnected:
                if time.monotonic() > deadline:
                    break
                time.sleep(RETRY_SECONDS)
        raise lost

    def wait(self, cookie: int) -> bytes:
        """The bytes of a READ, nothing for others. Raises the request's error. Each cookie can be waited for once."""
        return bytes(self._wait(cookie).data or b"")

    def done(self, cookie: int) -> bool:
        """Whether `wait` would return at once."""
        return self._replies.requests[cookie].done

    def _wait(self, cookie: int) -> Request:
        request = self._replies.requests[cookie]
        while not request.done:
            self._receive()
        del self._replies.requests[cookie]
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
        try:
            self._replies.receive()
        except NbdDisconnected as lost:
            self._again(lost)
