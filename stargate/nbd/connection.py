# SPDX-License-Identifier: Apache-2.0
"""One client of the NBD server: its buffers, its output queue and what it still waits for.

No protocol rules and no event loop here.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stargate.nbd import wire
from stargate.nbd.exports import Buffer, ConnInfo, Export
from stargate.nbd.negotiate import Handshake
from stargate.nbd.tls import TlsSocket
from stargate.units import KiB, MiB

RECEIVE_BYTES = 512 * KiB
"""A receive buffer. A WRITE that does not fit is taken in pieces, so no request makes the server allocate."""

BACKLOG_BYTES = 8 * MiB
"""Unsent replies beyond which nothing more is read from, or executed for, a connection."""

HANDSHAKE_BACKLOG_BYTES = 256 * KiB
"""The same before anything is known about the peer."""

LATER_BYTES_MAX = 8 * MiB
"""Of reads under way beside the loop, beyond which the connection waits for them."""

_IOV = 512  # buffers per sendmsg; the kernel takes at most 1024


class BufferPool:
    """Receive buffers to reuse. A connection holds one only while it has unparsed bytes, so idle ones cost nothing."""

    def __init__(self, size_bytes: int = RECEIVE_BYTES, keep: int = 16) -> None:
        self._size_bytes = size_bytes
        self._keep = keep
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        return self._free.pop() if self._free else memoryview(bytearray(self._size_bytes))

    def give(self, buffer: memoryview) -> None:
        if len(self._free) < self._keep:
            self._free.append(buffer)


@dataclass(slots=True)
class Transfer:
    """A WRITE whose payload is still arriving. With `error` set the rest is received only to be thrown away."""

    cookie: bytes
    flags: int
    offset: int
    left: int
    error: int


class Connection:
    """State of one socket. The server's loop thread alone touches it."""

    __slots__ = (
        "broken",
        "buffer",
        "closing",
        "deadline",
        "durable",
        "end",
        "export",
        "fd",
        "handshake",
        "head",
        "info",
        "later",
        "later_bytes",
        "limit",
        "mask",
        "more",
        "out",
        "out_bytes",
        "peer",
        "pending",
        "resume_at",
        "sock",
        "staged",
        "status",
        "structured",
        "tls",
        "transfer",
        "turn",
        "waiting",
        "written",
    )

    def __init__(self, sock: socket.socket, peer: str, handshake: Handshake, deadline: float) -> None:
        self.sock: socket.socket | TlsSocket = sock
        self.tls: TlsSocket | None = None
        """`sock`, once it is encrypted."""
        self.fd = sock.fileno()
        self.peer = peer
        self.handshake: Handshake | None = handshake
        self.pending = b""
        """Handshake input not yet understood."""
        self.deadline = deadline
        """Of the handshake, or of closing."""
        self.info: ConnInfo | None = None
        self.export: Export | None = None
        self.structured = False
        self.status = False
        self.buffer: memoryview | None = None
        self.head = 0
        self.end = 0
        self.transfer: Transfer | None = None
        self.more = False
        """Parsing stopped for fairness or back-pressure, not for lack of input."""
        self.written: list[bytes] = []
        """Cookies to answer once the batch is committed."""
        self.durable: list[bytes] = []
        """Cookies to answer once the batch is durable."""
        self.staged = False
        """This batch gave bytes or zeroes to the export."""
        self.out: list[Buffer] = []
        self.out_bytes = 0
        self.limit = HANDSHAKE_BACKLOG_BYTES
        """Unsent replies beyond which this connection gets no work done."""
        self.waiting = 0
        """Replies that wait for durability, or for their bytes."""
        self.later: Callable[[LateRead], None] | None = None
        """Takes a read that is to be fetched beside the loop; None: there is no such thing."""
        self.later_bytes = 0
        """Of reads under way beside the loop."""
        self.closing = False
        self.broken = False
        self.resume_at = 0.0
        """Monotonic time before which nothing is read (pacing); 0.0 when not paced."""
        self.mask = 0
        self.turn = 0
        """When it was served last while others waited; see `fair`."""

    def queue(self, data: Buffer) -> None:
        self.out.append(data)
        self.out_bytes += len(data)

    def receive_handshake(self) -> None:
        """Takes at most one option's worth of input."""
        try:
            data = self.sock.recv(wire.MAX_OPTION_BYTES + wire.OPTION.size - len(self.pending))
        except BlockingIOError:
            return
        except OSError:
            self.broken = True
            return
        if not data:
            self.closing = True
        self.pending += data

    def negotiate(self) -> None:
        """Goes through the handshake input at hand; what is left over belongs to the transmission phase."""
        handshake = self.handshake
        if handshake is None:
            return
        used = 1
        while used and self.out_bytes < self.limit:
            used, reply = handshake.feed(self.pending)
            self.pending = self.pending[used:]
            if reply:
                self.queue(reply)
        self.more = used > 0  # it does not read its replies: no more of them until it does, or its deadline
        if handshake.closing:
            self.closing, self.more = True, False

    def receive(self, pool: BufferPool) -> None:
        """Takes what the socket has, up to a buffer full. End of stream starts closing; errors break the connection."""
        buffer = self.buffer
        if buffer is None:
            buffer = self.buffer = pool.take()
        elif self.head:
            self._make_room(buffer)
        try:
            count = self.sock.recv_into(buffer[self.end :])
        except BlockingIOError:
            return
        except OSError:
            self.broken = True
            return
        if count == 0:
            self.closing = True
        self.end += count

    def _make_room(self, buffer: memoryview) -> None:
        """Moves the unparsed rest to the front, if the request at its head could otherwise not be completed."""
        head, end = self.head, self.end
        need = wire.REQUEST.size
        if self.transfer is None and end - head >= need:
            need = min(need + wire.U32.unpack_from(buffer, head + need - 4)[0], len(buffer))
        elif self.transfer is not None:
            need = len(buffer)
        if head + need > len(buffer):
            buffer[: end - head] = bytes(buffer[head:end])
            self.head, self.end = 0, end - head

    def release(self, pool: BufferPool) -> None:
        """Gives an empty receive buffer back."""
        if self.buffer is not None and self.head == self.end:
            pool.give(self.buffer)
            self.buffer = None
            self.head = self.end = 0

    def send(self) -> None:
        """Sends as much as the socket takes now; what is left stays queued."""
        out = self.out
        try:
            while out:
                sent = self.sock.send(out[0]) if len(out) == 1 else self.sock.sendmsg(out[:_IOV])
                self.out_bytes -= sent
                if not self.out_bytes:
                    out.clear()
                    return
                done = 0
                while done < len(out) and sent >= len(out[done]):
                    sent -= len(out[done])
                    done += 1
                del out[:done]
                if sent:
                    out[0] = memoryview(out[0])[sent:]
        except BlockingIOError:
            return
        except OSError:
            self.broken = True

    @property
    def full(self) -> bool:
        """No more work is done for it until replies left, or arrived."""
        return self.out_bytes >= self.limit or self.later_bytes >= LATER_BYTES_MAX

    @property
    def finished(self) -> bool:
        """Nothing left to do before the socket is closed."""
        return self.broken or (self.closing and not self.more and not self.out and not self.waiting)


class LateRead(NamedTuple):
    """One READ that is fetched beside the loop, by `job`; `length` in bytes."""

    conn: Connection
    cookie: bytes
    offset: int
    length: int
    job: Callable[[], Sequence[Buffer]]
