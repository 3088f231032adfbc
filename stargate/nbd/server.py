# SPDX-License-Identifier: Apache-2.0
"""The NBD server: one epoll loop in one thread for all exports.

A turn takes what has arrived on up to 16 connections, stages every complete request, commits all of it with one append,
answers, and asks for a sync if somebody flushed. The loop never sleeps for a client, never waits for the disk and
outlives any input.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from stargate.clock import Clock, SystemClock
from stargate.errors import InvalidArgument, StargateError
from stargate.nbd import listen, requests
from stargate.nbd.connection import BACKLOG_BYTES, BufferPool, Connection
from stargate.nbd.durability import OK, DurabilityQueue
from stargate.nbd.exports import HOLD, ConnInfo, Exports
from stargate.nbd.negotiate import Handshake
from stargate.nbd.poll import EVENTS, SpinningPoll
from stargate.nbd.stage import stage

HANDSHAKE_SECONDS = 10.0
HANDSHAKES = 100
"""Connections that may be in negotiation; the oldest makes room for a new one: silent sockets lock nobody out."""
CLOSE_SECONDS = 5.0
"""How long a disconnected client may take to read its last replies."""
PACE_SECONDS_MAX = 1.0
HOLD_SECONDS = 0.02  # how often an export that said HOLD is asked again

log = logging.getLogger(__name__)


class NbdServer:
    """Serves `exports`. `run` is the body of a thread; what is marked thread-safe may be called from others."""

    def __init__(
        self, exports: Exports, *, clock: Clock | None = None, max_connections: int = 512, spin: bool = True
    ) -> None:
        self._exports = exports
        self._clock = clock or SystemClock()
        self._max_connections = max_connections
        self._poll = SpinningPoll(spin=spin)
        self._pool = BufferPool()
        self._listeners = listen.Listeners()
        self._connections: dict[int, Connection] = {}
        self._handshaking: dict[int, Connection] = {}
        self._ready: dict[int, Connection] = {}
        self._paced: dict[int, Connection] = {}
        self._leaving: dict[int, Connection] = {}
        self._durability = DurabilityQueue(exports)
        self._farewells: list[tuple[set[Connection], int, Future[int]]] = []
        self._calls: deque[Callable[[], object]] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._accept_again_at = 0.0
        self._numbers = 0
        self._stopping = False
        self._serving = False
        self._thread: int | None = None
        self._poll.epoll.register(self._wake_fd, select.EPOLLIN)
        self._poll.epoll.register(exports.durable_fd, select.EPOLLIN)

    def listen_tcp(self, host: str, port: int) -> int:
        """Before `run`. Returns the port. Raises InvalidArgument or AlreadyExists."""
        sock = self._listeners.add_tcp(host, port)
        self._poll.epoll.register(sock.fileno(), select.EPOLLIN)
        return int(sock.getsockname()[1])

    def listen_unix(self, path: str) -> None:
        """Before `run`. Raises InvalidArgument or AlreadyExists."""
        sock = self._listeners.add_unix(path)
        self._poll.epoll.register(sock.fileno(), select.EPOLLIN)

    def call_soon(self, function: Callable[[], object]) -> None:
        """Thread-safe: runs `function` in the loop thread, between two batches (nothing is staged then)."""
        self._calls.append(function)
        os.eventfd_write(self._wake_fd, 1)

    def disconnect(self, which: str | Callable[[ConnInfo], bool], *, after_flush: bool) -> Future[int]:
        """Thread-safe: stops reading from the connections of an export (its name) or of a predicate, then closes them.
        From when this runs in the loop thread nothing more of theirs is staged. `after_flush`: replies in flight, also
        those that wait for durability, are sent first (for at most 5 s). The future gives how many were closed.
        """
        picked = which if callable(which) else _named(which)
        future: Future[int] = Future()
        if threading.get_ident() == self._thread and not self._serving:
            self._disconnect(picked, after_flush, future)
        else:
            self.call_soon(lambda: self._disconnect(picked, after_flush, future))
        return future

    def connections(self) -> list[ConnInfo]:
        """In the loop thread: all clients past their handshake."""
        return [conn.info for conn in self._connections.values() if conn.info is not None]

    def stop(self) -> None:
        """Thread-safe: no new clients, replies in flight are sent (for at most 5 s), then `run` returns."""
        self.call_soon(self._stop)

    def run(self) -> None:
        """Serves until `stop`. Raises InvalidArgument when called twice."""
        if self._thread is not None:
            raise InvalidArgument("this NBD server has run already")
        self._thread = threading.get_ident()
        try:
            while not (self._stopping and not self._connections):
                self._turn()
        finally:
            self._shut_down()

    def _turn(self) -> None:
        batch: list[Connection] = []
        others: list[int] = []
        for fd, event in self._poll.wait(self._timeout()):
            conn = self._connections.get(fd)
            if conn is None:
                others.append(fd)
            else:
                self._on_event(conn, event, batch)
        for conn in list(self._ready.values())[:EVENTS]:
            del self._ready[conn.fd]
            if conn not in batch:
                batch.append(conn)
        if batch:
            self._serving = True
            self._serve(batch)
            self._serving = False
        for fd in others:
            self._on_other(fd)
        if self._handshaking or self._paced or self._leaving or self._accept_again_at:
            self._on_time()

    def _on_other(self, fd: int) -> None:
        """What is not a client. After the batch: writes received before a fence must not follow it, and a descriptor
        freed in this turn must not become a new client's while events for the old one are still at hand."""
        if fd == self._wake_fd:
            self._run_calls()
        elif fd == self._exports.durable_fd:
            for conn in self._durability.advance():
                conn.send()
                self._settle(conn)
        elif fd in self._listeners.by_fd:
            self._accept(self._listeners.by_fd[fd])

    def _timeout(self) -> float:
        """Seconds until something is due; -1.0 for nothing."""
        if self._ready:
            return 0
        due = [conn.resume_at for conn in self._paced.values()]
        if self._handshaking:
            due.append(next(iter(self._handshaking.values())).deadline)
        if self._leaving:
            due.append(min(conn.deadline for conn in self._leaving.values()))
        if self._accept_again_at:
            due.append(self._accept_again_at)
        return max(0.0, min(due) - self._clock.monotonic()) if due else -1.0

    def _on_event(self, conn: Connection, event: int, batch: list[Connection]) -> None:
        if event & select.EPOLLOUT:
            conn.send()
        if event & select.EPOLLIN and conn.mask & select.EPOLLIN:
            if conn.handshake is None:
                conn.receive(self._pool)
            else:
                conn.receive_handshake()
            batch.append(conn)
            return
        if event & (select.EPOLLHUP | select.EPOLLERR):
            conn.broken = True
        self._settle(conn)

    def _serve(self, batch: list[Connection]) -> None:
        """One batch: stage all, commit once, answer all."""
        commit = False
        for conn in batch:
            self._stage(conn)
            commit = commit or conn.staged or bool(conn.durable)
        position = error = 0
        if commit:
            try:
                position = self._exports.commit()
            except Exception as failure:
                if not isinstance(failure, StargateError):
                    log.exception("unforeseen error in commit")
                error = requests.errno_of(failure)
        sync = False
        for conn in batch:
            sync = self._answer(conn, position, error) or sync
            if conn.out and not conn.mask & select.EPOLLOUT:
                conn.send()
            self._settle(conn)
        if sync:
            self._exports.request_sync(position)

    def _stage(self, conn: Connection) -> None:
        if conn.broken or conn.fd < 0:
            return
        try:
            if conn.handshake is not None:
                conn.negotiate()
                if conn.handshake.finished:
                    self._open(conn, conn.handshake)
            if conn.handshake is None:
                stage(conn)
        except Exception:
            log.exception("NBD connection from %s failed", conn.peer)
            conn.broken = True

    def _answer(self, conn: Connection, position: int, error: int) -> bool:
        """Queues the replies of a committed (or failed) batch. True if somebody now waits for a sync."""
        if error:
            if conn.transfer is not None and conn.staged:
                conn.transfer.error = conn.transfer.error or error
            for cookie in conn.written + conn.durable:
                conn.queue(requests.simple_reply(cookie, error))
            conn.written.clear()
            conn.durable.clear()
        if conn.written:
            conn.queue(OK + OK.join(conn.written))
            conn.written.clear()
        waits = bool(conn.durable) and self._durability.add(conn, position)
        if conn.staged:
            conn.staged = False
            self._pace(conn)
        return waits

    def _pace(self, conn: Connection) -> None:
        if conn.export is None:
            return
        delay = conn.export.pace()
        if delay > 0.0:
            conn.resume_at = self._clock.monotonic() + min(delay, PACE_SECONDS_MAX)
            self._paced[conn.fd] = conn

    def _settle(self, conn: Connection) -> None:
        """After anything happened to a connection: close it, or tell epoll what it waits for now."""
        if conn.fd < 0:
            return
        if conn.finished:
            self._close(conn)
            return
        conn.release(self._pool)
        full = conn.out_bytes >= conn.limit
        if conn.more and not full and not conn.resume_at:
            self._ready[conn.fd] = conn
        mask = select.EPOLLOUT if conn.out else 0
        if not (conn.closing or conn.more or conn.resume_at or full):
            mask |= select.EPOLLIN
        if mask != conn.mask:
            self._poll.epoll.modify(conn.fd, mask)
            conn.mask = mask

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(EVENTS):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Out of descriptors: the listener stays readable, so leave it alone for a while instead of spinning.
                log.warning("cannot accept an NBD client: %s", error)
                self._poll.epoll.modify(listener.fileno(), 0)
                self._accept_again_at = self._clock.monotonic() + 1.0
                return
            self._welcome(sock)

    def _welcome(self, sock: socket.socket) -> None:
        if len(self._handshaking) >= HANDSHAKES:
            self._close(next(iter(self._handshaking.values())))
        if len(self._connections) >= self._max_connections:
            log.warning("NBD client refused: %d connections are open", len(self._connections))
            sock.close()
            return
        try:
            peer = listen.prepare(sock)
        except OSError:
            sock.close()  # gone already
            return
        conn = Connection(sock, peer, Handshake(self._exports), self._clock.monotonic() + HANDSHAKE_SECONDS)
        self._connections[conn.fd] = self._handshaking[conn.fd] = conn
        conn.mask = select.EPOLLIN
        self._poll.epoll.register(conn.fd, conn.mask)
        conn.queue(Handshake.greeting())
        conn.send()
        self._settle(conn)

    def _open(self, conn: Connection, handshake: Handshake) -> None:
        export = handshake.chosen
        if export is None:
            conn.broken = True
            return
        self._numbers += 1
        info = ConnInfo(self._numbers, conn.peer, handshake.chosen_name, self._clock.now())
        try:
            self._exports.opened(info, export)
        except StargateError as error:
            log.info("NBD client %s not admitted to %s: %s", conn.peer, handshake.chosen_name, error.message)
            conn.broken = True
            return
        self._handshaking.pop(conn.fd, None)
        conn.handshake = None
        conn.more = False
        conn.limit = BACKLOG_BYTES
        conn.info, conn.export = info, export
        conn.structured, conn.status = handshake.structured, handshake.status
        if conn.pending:
            conn.buffer = self._pool.take()
            conn.end = len(conn.pending)
            conn.buffer[: conn.end] = conn.pending
            conn.pending = b""

    def _disconnect(self, picked: Callable[[ConnInfo], bool], after_flush: bool, future: Future[int]) -> None:
        leaving = {conn for conn in self._connections.values() if conn.info is not None and picked(conn.info)}
        count = len(leaving)
        for conn in list(leaving):
            conn.closing, conn.more = True, False
            conn.broken = conn.broken or not after_flush
            conn.deadline = self._clock.monotonic() + CLOSE_SECONDS
            self._leaving[conn.fd] = conn
            self._ready.pop(conn.fd, None)
            self._settle(conn)
        waiting = {conn for conn in leaving if conn.fd >= 0}
        if waiting:
            self._farewells.append((waiting, count, future))
        else:
            future.set_result(count)

    def _close(self, conn: Connection) -> None:
        fd, conn.fd = conn.fd, -1
        for table in (self._connections, self._handshaking, self._ready, self._paced, self._leaving):
            table.pop(fd, None)
        self._poll.epoll.unregister(fd)
        conn.sock.close()
        conn.head = conn.end
        conn.release(self._pool)
        conn.out.clear()
        if conn.info is not None:
            try:
                self._exports.closed(conn.info)
            except Exception:
                log.exception("closing NBD connection %d", conn.info.number)
        for farewell in list(self._farewells):
            farewell[0].discard(conn)
            if not farewell[0]:
                self._farewells.remove(farewell)
                farewell[2].set_result(farewell[1])

    def _on_time(self) -> None:
        now = self._clock.monotonic()
        for conn in [conn for conn in self._paced.values() if conn.resume_at <= now]:
            if conn.export is not None and conn.export.pace() == HOLD and not conn.closing:
                conn.resume_at = now + HOLD_SECONDS
                continue
            del self._paced[conn.fd]
            conn.resume_at = 0.0
            self._settle(conn)
        while self._handshaking and (oldest := next(iter(self._handshaking.values()))).deadline <= now:
            self._close(oldest)
        for conn in [conn for conn in self._leaving.values() if conn.deadline <= now]:
            self._close(conn)
        if self._accept_again_at and self._accept_again_at <= now:
            self._accept_again_at = 0.0
            for fd in self._listeners.by_fd:
                self._poll.epoll.modify(fd, select.EPOLLIN)

    def _run_calls(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        for _ in range(len(self._calls)):
            function = self._calls.popleft()
            try:
                function()
            except Exception:
                log.exception("a call into the NBD loop failed")

    def _stop(self) -> None:
        self._stopping = True
        self._listeners.close()
        for conn in list(self._handshaking.values()):
            self._close(conn)
        self._disconnect(lambda info: True, True, Future())

    def _shut_down(self) -> None:
        self._listeners.close()
        for conn in list(self._connections.values()):
            self._close(conn)
        self._run_calls()
        self._poll.close()


def _named(name: str) -> Callable[[ConnInfo], bool]:
    return lambda info: info.export_name == name
