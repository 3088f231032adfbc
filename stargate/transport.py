# SPDX-License-Identifier: Apache-2.0
"""Byte streams between sites as the engine sees them, so that a simulator can own them (LAW 5): TCP here, in process in
`stargate.memtransport`.

Every failure of a stream is an OSError (`ssl.SSLError` is one): a silence longer than its limit TimeoutError, all else
a connection that is gone. Nothing here knows frames.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Protocol, Self

from stargate.peer.identity import Identity, PeerSet, ServerContexts, client_context
from stargate.units import KiB

Buffer = bytes | bytearray | memoryview

SILENCE_SECONDS = min(600.0, max(1.0, float(os.environ.get("STARGATE_SILENCE_SECONDS", "12"))))
"""Longest silence, and longest stall of a write: below the 15 s within which a half-open link must be noticed. The
environment may say otherwise, from 1 to 600 s, for both sites alike."""

SLICE_BYTES = 64 * KiB
"""TLS gives a whole write one time limit; in slices a slow link is not taken for a stalled one."""

_KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 3), (socket.TCP_KEEPCNT, 3))
_TCP_INFO_RECEIVED = 128
_TCP_INFO_SENT = 200
_TCP_INFO_BYTES = 208


class Stream(Protocol):
    """A connection. One thread sends and receives; only `abort` may come from another."""

    @property
    def address(self) -> str:
        """The other end, for people."""
        ...

    def handshake(self, timeout_seconds: float) -> None:
        """Have the other end prove who it is, all in this time. Done already for a stream that `connect` gave. Raises
        OSError.
        """
        ...

    def certificate(self) -> bytes | None:
        """What the other end proved in the handshake: its certificate in DER. None before, and where nobody proves."""
        ...

    def settimeout(self, seconds: float) -> None:
        """How long one `recv_into` may find nothing, and `sendall` make no progress."""
        ...

    def sendall(self, data: Buffer) -> None:
        """Raises OSError; how much has left by then nobody knows."""
        ...

    def recv_into(self, buffer: memoryview) -> int:
        """At least one byte into `buffer` (which is not empty); 0 = the other end sends no more. Raises OSError."""
        ...

    def has_more(self) -> bool:
        """Whether `recv_into` would find something at once: bytes, the end, or an error."""
        ...

    def end_sending(self) -> None:
        """The other end reads what was sent, then the end. What it has under way is still received; under TLS it can
        send nothing once it has met the end.
        """
        ...

    def abort(self) -> None:
        """End both directions; whoever is blocked in this stream wakes up."""
        ...

    def close(self) -> None: ...

    def wire_bytes(self) -> int:
        """Bytes moved both ways so far, as near to the wire as it can be known; still told after `close`."""
        ...


class Listener(Protocol):
    @property
    def port(self) -> int:
        """Where it listens, also when port 0 was asked for."""
        ...

    def accept(self) -> Stream:
        """The next connection; nothing of it was read yet. Raises OSError, and does so from `close` on."""
        ...

    def close(self) -> None:
        """From any thread; wakes `accept`."""
        ...


class Transport(Protocol):
    def listen(self, address: str, port: int) -> Listener:
        """Raises OSError when the address is not ours or in use."""
        ...

    def connect(self, address: str, port: int, timeout_seconds: float) -> Stream:
        """A stream past its handshake. Raises OSError."""
        ...


Wrap = Callable[[socket.socket], ssl.SSLSocket]


class TcpTransport:
    """TCP, bare or (`mutual_tls`) under TLS. No Nagle on either end (40-ms stalls), and a dead peer is noticed also
    when nothing is being read.
    """

    def __init__(self, *, client: Wrap | None = None, server: Wrap | None = None) -> None:
        """`client`, `server`: put TLS around a connected socket without shaking hands yet; None = bare."""
        self._client = client
        self._server = server

    @classmethod
    def mutual_tls(cls, identity: Identity, peers: PeerSet, *, site_id: str | None = None) -> Self:
        """TLS 1.3 with pinned certificates both ways (stargate.peer.identity), those of `peers` at the moment of each
        handshake. It connects to `site_id` alone (None: to nobody) and lets in whoever is paired. A connection raises
        PeerRefused when that site is not paired.
        """

        contexts = ServerContexts(identity, peers)

        def client(sock: socket.socket) -> ssl.SSLSocket:
            context = client_context(identity, peers, site_id or "")
            return context.wrap_socket(sock, do_handshake_on_connect=False)

        def server(sock: socket.socket) -> ssl.SSLSocket:
            return contexts.get().wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

        return cls(client=client, server=server)

    def listen(self, address: str, port: int) -> TcpListener:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return TcpListener(socket.create_server((address, port), family=family), self._server)

    def connect(self, address: str, port: int, timeout_seconds: float) -> TcpStream:
        stream = TcpStream(socket.create_connection((address, port), timeout_seconds), self._client)
        try:
            stream.handshake(timeout_seconds)
        except BaseException:
            stream.close()
            raise
        return stream


class TcpListener:
    """`Listener` of a `TcpTransport`."""

    def __init__(self, sock: socket.socket, wrap: Wrap | None) -> None:
        self._socket = sock
        self._wrap = wrap
        self._port = int(sock.getsockname()[1])

    @property
    def port(self) -> int:
        return self._port

    def accept(self) -> TcpStream:
        return TcpStream(self._socket.accept()[0], self._wrap)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # `close` alone does not wake a thread in accept
        self._socket.close()


class TcpStream:
    """`Stream` of a `TcpTransport`; owns the socket."""

    def __init__(self, sock: socket.socket, wrap: Wrap | None) -> None:
        self._socket = sock
        self._wrap = wrap
        self._lock = threading.Lock()
        self._moved_bytes = 0
        self._measured_bytes = 0
        try:
            host, port = sock.getpeername()[:2]
            self._address = f"{host}:{port}"
            _tune(sock)
        except OSError:
            sock.close()
            raise

    @property
    def address(self) -> str:
        return self._address

    def handshake(self, timeout_seconds: float) -> None:
        if self._wrap is None:
            return
        with self._lock:  # wrapping empties the bare socket: `abort` must find the one or the other
            self._socket.settimeout(timeout_seconds)
            tls = self._socket = self._wrap(self._socket)
            self._wrap = None
        tls.do_handshake()
        self.settimeout(SILENCE_SECONDS)

    def certificate(self) -> bytes | None:
        sock = self._socket
        return sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None

    def settimeout(self, seconds: float) -> None:
        self._socket.settimeout(seconds)

    def sendall(self, data: Buffer) -> None:
        view = memoryview(data)
        for at in range(0, len(view), SLICE_BYTES):
            self._socket.sendall(view[at : at + SLICE_BYTES])
        self._moved_bytes += len(view)

    def recv_into(self, buffer: memoryview) -> int:
        got = self._socket.recv_into(buffer)
        self._moved_bytes += got
        return got

    def has_more(self) -> bool:
        sock = self._socket
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return True
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))

    def end_sending(self) -> None:
        # Not the method of SSLSocket: that one gives up TLS, and the plain bytes of a late write would follow.
        socket.socket.shutdown(self._socket, socket.SHUT_WR)

    def abort(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        self.wire_bytes()
        with contextlib.suppress(OSError):
            self._socket.close()

    def wire_bytes(self) -> int:
        """TLS included, as the kernel counted them; what was sent and received where it does not count."""
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            info = b""
        if len(info) >= _TCP_INFO_BYTES:
            (received,) = struct.unpack_from("=Q", info, _TCP_INFO_RECEIVED)
            (sent,) = struct.unpack_from("=Q", info, _TCP_INFO_SENT)
            self._measured_bytes = max(self._measured_bytes, received + sent)
        return self._measured_bytes or self._moved_bytes


def _tune(sock: socket.socket) -> None:
    sock.settimeout(SILENCE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENCE_SECONDS * 1000))
