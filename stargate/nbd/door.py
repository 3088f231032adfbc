# SPDX-License-Identifier: Apache-2.0
"""Who comes in: listening sockets, connections in negotiation with their limits, TLS, and the step to an export.

Called in the server's loop thread only.
"""

from __future__ import annotations

import logging
import select
import socket
from collections import Counter
from collections.abc import Callable

from stargate.clock import Clock
from stargate.errors import InvalidArgument, StargateError
from stargate.nbd import listen
from stargate.nbd.connection import BACKLOG_BYTES, BufferPool, Connection
from stargate.nbd.exports import ConnInfo, Exports
from stargate.nbd.negotiate import Handshake, Tls
from stargate.nbd.tls import TlsPolicy, TlsSocket

HANDSHAKE_SECONDS = 10.0
HANDSHAKES = 100
"""Connections that may be in negotiation. The oldest of the address that has most of them makes room for a new one:
silent sockets lock nobody out, and those of one host lock no other host out."""
ACCEPTS = 16
"""New connections in one turn."""
NEGOTIATIONS = 2
"""Connections in negotiation that are read from in one turn: a TLS handshake costs half a millisecond of the loop."""

log = logging.getLogger(__name__)


class Door:
    """`enter` takes a new connection into the loop, `drop` closes one, `is_full`: there is no room for more."""

    def __init__(
        self,
        exports: Exports,
        clock: Clock,
        epoll: select.epoll,
        tls: TlsPolicy | None,
        *,
        enter: Callable[[Connection], None],
        drop: Callable[[Connection], None],
        is_full: Callable[[], bool],
    ) -> None:
        self._exports = exports
        self._clock = clock
        self._epoll = epoll
        self._tls = tls
        self._enter, self._drop, self._is_full = enter, drop, is_full
        self._listeners = listen.Listeners()
        self._tls_of: dict[int, Tls] = {}
        self._waiting: dict[int, Connection] = {}
        self._accept_again_at = 0.0
        self._numbers = 0
        self._turns_left = NEGOTIATIONS

    # -- listening ----------------------------------------------------------------------------------------------------

    def listen_tcp(self, host: str, port: int) -> int:
        """Returns the port. TLS is offered if there is a policy, and required unless the address is a loopback one.
        Raises InvalidArgument (also when TLS is required and cannot be spoken) or AlreadyExists."""
        required = listen.is_routable(host)
        if required and self._tls is None:
            raise InvalidArgument(f"NBD is served at {host} with TLS only, and this server has no certificate")
        sock = self._listeners.add_tcp(host, port)
        self._listen(sock, "required" if required else "offered" if self._tls else "none")
        return int(sock.getsockname()[1])

    def listen_unix(self, path: str) -> None:
        """File permissions protect it, so there is no TLS. Raises InvalidArgument or AlreadyExists."""
        self._listen(self._listeners.add_unix(path), "none")

    def _listen(self, sock: socket.socket, tls: Tls) -> None:
        self._tls_of[sock.fileno()] = tls
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def close(self) -> None:
        """No new connections; those in negotiation are dropped. Idempotent."""
        self._listeners.close()
        self._accept_again_at = 0.0
        for conn in list(self._waiting.values()):
            self._drop(conn)

    def __contains__(self, fd: int) -> bool:
        return fd in self._listeners.by_fd

    # -- new connections ----------------------------------------------------------------------------------------------

    def accept(self, fd: int) -> None:
        """Lets in some of those who knock at the listener `fd`."""
        listener = self._listeners.by_fd[fd]
        for _ in range(ACCEPTS):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Out of descriptors: the listener stays readable, so leave it alone for a while instead of spinning.
                log.warning("cannot accept an NBD client: %s", error)
                self._epoll.modify(fd, 0)
                self._accept_again_at = self._clock.monotonic() + 1.0
                return
            self._welcome(sock, self._tls_of[fd])

    def _welcome(self, sock: socket.socket, tls: Tls) -> None:
        if len(self._waiting) >= HANDSHAKES:
            self._drop(self._longest_waiting())
        if self._is_full():
            log.warning("NBD client refused: as many connections are open as may be")
            sock.close()
            return
        try:
            peer = listen.prepare(sock)
        except OSError:
            sock.close()  # gone already
            return
        conn = Connection(sock, peer, Handshake(self._exports, tls), self._clock.monotonic() + HANDSHAKE_SECONDS)
        self._waiting[conn.fd] = conn
        conn.queue(Handshake.greeting())
        self._enter(conn)

    def _longest_waiting(self) -> Connection:
        hosts = Counter(conn.peer.rpartition(":")[0] for conn in self._waiting.values())
        crowd = hosts.most_common(1)[0][0]
        return next(conn for conn in self._waiting.values() if conn.peer.rpartition(":")[0] == crowd)

    # -- negotiation --------------------------------------------------------------------------------------------------

    def new_turn(self) -> None:
        self._turns_left = NEGOTIATIONS

    def may_read(self) -> bool:
        """Whether one more connection in negotiation is read from in this turn; the others stay readable."""
        self._turns_left -= 1
        return self._turns_left >= 0

    def advance(self, conn: Connection, pool: BufferPool) -> None:
        """Goes on with the negotiation of `conn`; at its end `conn.handshake` is None, or the connection broken."""
        conn.negotiate()
        handshake = conn.handshake
        if handshake is not None and handshake.starting_tls:
            self._start_tls(conn, handshake)
        if handshake is not None and handshake.finished:
            self._open(conn, handshake, pool)

    def _start_tls(self, conn: Connection, handshake: Handshake) -> None:
        """What a client (or somebody in between) sent behind STARTTLS in the clear is never obeyed: it is hung up on.
        So is one that has not read its answers so far."""
        conn.send()
        if self._tls is None or isinstance(conn.sock, TlsSocket) or conn.pending or conn.out:
            conn.broken = True
            return
        conn.tls = TlsSocket(conn.sock, self._tls, conn.peer)
        conn.sock = conn.tls
        conn.more = False
        handshake.tls_started()

    def _open(self, conn: Connection, handshake: Handshake, pool: BufferPool) -> None:
        export = handshake.chosen
        if export is None or (conn.tls is not None and not conn.tls.still_good()):
            conn.broken = True
            return
        self._numbers += 1
        client = conn.tls.client if conn.tls is not None else ""
        peer = f"{conn.peer} ({client})" if client else conn.peer
        info = ConnInfo(self._numbers, peer, handshake.chosen_name, self._clock.now(), client)
        try:
            self._exports.opened(info, export)
        except StargateError as error:
            log.info("NBD client %s not admitted to %s: %s", conn.peer, handshake.chosen_name, error.message)
            conn.broken = True
            return
        self._waiting.pop(conn.fd, None)
        conn.handshake = None
        conn.more = False
        conn.limit = BACKLOG_BYTES
        conn.info, conn.export = info, export
        conn.structured, conn.status = handshake.structured, handshake.status
        if conn.pending:
            conn.buffer = pool.take()
            conn.end = len(conn.pending)
            conn.buffer[: conn.end] = conn.pending
            conn.pending = b""

    def left(self, fd: int) -> None:
        """The connection is closed."""
        self._waiting.pop(fd, None)

    # -- time ---------------------------------------------------------------------------------------------------------

    @property
    def has_timers(self) -> bool:
        """Somebody is in negotiation, or nobody is let in for a while."""
        return bool(self._waiting or self._accept_again_at)

    def due(self) -> float:
        """Monotonic time at which `on_time` has something to do; 0.0 for never."""
        times = [next(iter(self._waiting.values())).deadline] if self._waiting else []
        if self._accept_again_at:
            times.append(self._accept_again_at)
        return min(times, default=0.0)

    def on_time(self, now: float) -> None:
        while self._waiting and (oldest := next(iter(self._waiting.values()))).deadline <= now:
            self._drop(oldest)
        if self._accept_again_at and self._accept_again_at <= now:
            self._accept_again_at = 0.0
            for fd in self._listeners.by_fd:
                self._epoll.modify(fd, select.EPOLLIN)
