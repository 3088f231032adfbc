# SPDX-License-Identifier: Apache-2.0
"""The client's end of an NBD socket: its errors, exact reads and writes, and the negotiation."""

from __future__ import annotations

import io
import select
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from stargate.errors import StargateError
from stargate.nbd import wire
from stargate.nbd.exports import Buffer

MAX_REPLY_BYTES = 1 << 20
"""Longest answer taken that is not the data of a READ."""

_TLS_PIECE = 8 * 1024
"""Sent at once under TLS: what a writable socket takes for certain, for an encrypted record is sent whole or not."""


class NbdError(StargateError):
    """Base of what this client raises."""

    code = "nbd"


class NbdRefused(NbdError):
    """The server does not let us use this export; the text is the server's."""

    code = "nbd_refused"


class NbdDisconnected(NbdError):
    """The connection broke or never came about. Writes without an answer may or may not have happened."""

    code = "nbd_disconnected"


class NbdProtocolError(NbdError):
    """The server sent what no NBD server sends; the connection is closed."""

    code = "nbd_protocol"


class NbdRequestFailed(NbdError):
    """One request was answered with an error; the connection goes on. `errno` is the server's."""

    code = "nbd_request"

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


class Link:
    """A connected socket. All of it raises NbdDisconnected when it breaks; `bad` makes the error for a lying server.

    `tls`: the negotiation begins with STARTTLS and goes no further without; `host` is the name to verify.
    """

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None = None, host: str = "") -> None:
        self.tls = tls
        self._host = host
        self._timeout = sock.gettimeout()
        self._use(sock)

    def _use(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = io.BufferedReader(socket.SocketIO(sock, "r"), 256 * 1024)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN | select.POLLOUT)

    def encrypt(self) -> None:
        """Speaks TLS from now on. What came in the clear and was not read yet is thrown away, never believed."""
        if self.tls is None:
            return
        try:
            self._use(self.tls.wrap_socket(self._sock, server_hostname=self._host))
        except OSError as error:
            raise self.lost(error) from error

    def close(self) -> None:
        self._reader.close()
        self._sock.close()

    def lost(self, error: Exception) -> NbdDisconnected:
        self.close()
        return NbdDisconnected(f"the NBD connection broke: {error}")

    def bad(self, text: str) -> NbdProtocolError:
        self.close()
        return NbdProtocolError(text)

    def exactly(self, count: int) -> bytes:
        try:
            data = self._reader.read(count)
        except (OSError, ValueError) as error:
            raise self.lost(error) from error
        if len(data) != count:
            raise self.lost(ConnectionResetError("the server closed it"))
        return data

    def into(self, target: memoryview) -> None:
        done = 0
        while done < len(target):
            try:
                count = self._reader.readinto(target[done:])
            except (OSError, ValueError) as error:
                raise self.lost(error) from error
            if not count:
                raise self.lost(ConnectionResetError("the server closed it"))
            done += count

    def send(self, data: Buffer, receive: Callable[[], None] | None = None) -> None:
        """Sends all of it, taking in replies with `receive` meanwhile: the server may be waiting for that."""
        rest = memoryview(data)
        try:
            while rest:
                ready = self._poll.poll(None if self._timeout is None else self._timeout * 1000)
                if not ready:
                    raise TimeoutError("the server takes nothing")
                if ready[0][1] & ~select.POLLIN or receive is None:
                    rest = rest[self._sock.send(rest[:_TLS_PIECE] if self.tls else rest) :]
                else:
                    receive()
        except (OSError, ValueError) as error:
            raise self.lost(error) from error


@dataclass(frozen=True, slots=True)
class Agreed:
    """Outcome of a negotiation; `flags` are the transmission flags."""

    size_bytes: int
    flags: int
    structured: bool
    status: bool


def negotiate(link: Link, export: str, *, structured: bool) -> Agreed:
    """Raises NbdRefused with the server's words, NbdDisconnected, NbdProtocolError."""
    magic, option_magic, server_flags = wire.GREETING.unpack(link.exactly(wire.GREETING.size))
    if magic != wire.INIT_MAGIC or option_magic != wire.OPTION_MAGIC or not server_flags & wire.FLAG_FIXED_NEWSTYLE:
        raise link.bad("not an NBD server of the fixed newstyle")
    link.send(wire.CLIENT_FLAGS.pack(wire.FLAG_FIXED_NEWSTYLE | (server_flags & wire.FLAG_NO_ZEROES)))
    if link.tls is not None:
        if _option(link, wire.OPT_STARTTLS, b"")[0] != wire.REP_ACK:
            raise NbdRefused("the server does not speak TLS, and nothing less was asked for")
        link.encrypt()
    name = export.encode()
    counted = wire.U32.pack(len(name)) + name
    structured = structured and _option(link, wire.OPT_STRUCTURED_REPLY, b"")[0] == wire.REP_ACK
    status = False
    if structured:
        context = wire.BASE_ALLOCATION.encode()
        query = counted + wire.U32.pack(1) + wire.U32.pack(len(context)) + context
        reply, contexts = _option(link, wire.OPT_SET_META_CONTEXT, query)
        status = reply == wire.REP_ACK and bool(contexts)
    reply, infos = _option(link, wire.OPT_GO, counted + wire.U16.pack(0))
    if reply != wire.REP_ACK:
        text = infos[0].decode(errors="replace") or f"reply {reply:#x}"
        raise NbdRefused(f"the server refuses export {export!r}: {text}")
    for info in infos:
        if len(info) == wire.EXPORT_INFO.size and info[:2] == wire.U16.pack(wire.INFO_EXPORT):
            _, size_bytes, flags = wire.EXPORT_INFO.unpack(info)
            return Agreed(size_bytes, flags, structured, status)
    raise link.bad("the server does not tell the size of the export")


def _option(link: Link, option: int, data: bytes) -> tuple[int, list[bytes]]:
    """(final reply, the bodies that came before an ACK, or the one of an error)."""
    link.send(wire.OPTION.pack(wire.OPTION_MAGIC, option, len(data)) + data)
    parts: list[bytes] = []
    for _ in range(wire.MAX_OPTIONS):
        magic, answered, reply, length = wire.OPTION_REPLY.unpack(link.exactly(wire.OPTION_REPLY.size))
        if magic != wire.OPTION_REPLY_MAGIC or answered != option or length > MAX_REPLY_BYTES:
            raise link.bad("not a reply to our option")
        body = link.exactly(length)
        if reply == wire.REP_ACK:
            return reply, parts
        if reply & wire.REP_ERROR_BIT:
            return reply, [body]
        parts.append(body)
    raise link.bad("an option is answered without end")
