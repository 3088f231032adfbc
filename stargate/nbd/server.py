# SPDX-License-Identifier: Apache-2.0
"""The NBD server: one epoll loop in one thread for all exports.

A turn takes what has arrived on up to 16 connections (`fair` says whose), stages every complete request, commits all of
it with one append, answers, and asks for a sync if somebody flushed. The loop never sleeps for a client, waits for the
disk only on behalf of one who is alone here, and outlives any input.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from stargate.clock import Clock, SystemClock
from stargate.errors import InvalidArgument, StargateError
from stargate.eventfd import EventFd
from stargate.nbd import requests
from stargate.nbd.connection import BufferPool, Connection
from stargate.nbd.door import Door
from stargate.nbd.durability import OK, DurabilityQueue
from stargate.nbd.exports import HOLD, CommitLater, ConnInfo, Exports
from stargate.nbd.fair import SHARE, Turns
from stargate.nbd.farewells import Farewells
from stargate.nbd.later import LaterReads
from stargate.nbd.poll import LoopTurns, SpinningPoll
from stargate.nbd.stage import stage
from stargate.nbd.tls import TlsPolicy

CLOSE_SECONDS = 5.0
"""How long a disconnected client may take to read its last replies."""
PACE_SECONDS_MAX = 1.0
HOLD_SECONDS = 0.02  # how often an export that said HOLD is asked again

log = logging.getLogger(__name__)


class NbdServer:
    """Serves `exports`. `run` is the body of a thread; what is marked thread-safe may be called from others."""

    def __init__(
        self,
        exports: Exports,
        *,
        tls: TlsPolicy | None = None,
        clock: Clock | None = None,
        max_connections: int = 512,
        spin: bool = True,
    ) -> None:
        self._exports = exports
        self._clock = clock or SystemClock()
        self._poll = SpinningPoll(spin=spin)
        self._pool = BufferPool()
        self._turns = Turns()
        self._connections: dict[int, Connection] = {}
        self._door = Door(
            exports,
            self._clock,
            self._poll.epoll,
            tls,
            enter=self._enter,
            drop=self._close,
            is_full=lambda: len(self._connections) >= max_connections,
        )
        self._ready: dict[int, Connection] = {}
        self._paced: dict[int, Connection] = {}
        self._leaving: dict[int, Connection] = {}
        self._durability = DurabilityQueue(exports)
        self._farewells = Farewells()
        self._later = LaterReads(self.call_soon, self._settle)
        self._calls: deque[Callable[[], object]] = deque()
        self._wake = EventFd(waits=False)
        self._stopping = False
        self._serving = False
        self._thread: int | None = None
        self._poll.epoll.register(self._wake.fd, select.EPOLLIN)
        self._poll.epoll.register(exports.durable_fd, select.EPOLLIN)

    def listen_tcp(self, host: str, port: int) -> int:
        """Before `run`. Returns the port. TLS is required unless `host` is a loopback address.
        Raises InvalidArgument or AlreadyExists."""
        return self._door.listen_tcp(host, port)

    def listen_unix(self, path: str) -> None:
        """Before `run`. Raises InvalidArgument or AlreadyExists."""
        self._door.listen_unix(path)

    def call_soon(self, function: Callable[[], object]) -> None:
        """Thread-safe: runs `function` in the loop thread, between two batches (nothing is staged then)."""
        self._calls.append(function)
        self._wake.raise_()

    def disconnect(self, which: str | Callable[[ConnInfo], bool], *, after_flush: bool) -> Future[int]:
        """Thread-safe: stops reading from the connections of an export (its name) or of a predicate, then closes them.
        From when this runs in the loop thread nothing more of theirs is staged. `after_flush`: replies in flight, also
        those that wait for durability, are sent first (for at most 5 s). The future gives how many were closed.
        """
        picked = which if callable(which) else lambda info: info.export_name == which
        future: Future[int] = Future()
        if threading.get_ident() == self._thread and not self._serving:
            self._disconnect(picked, after_flush, future)
        else:
            self.call_soon(lambda: self._disconnect(picked, after_flush, future))
        return future

    @property
    def turns(self) -> LoopTurns:
        """How long the loop's turns took."""
        return self._poll.turns

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
        events = self._poll.wait(self._timeout())
        ready = list(self._ready.values()) if self._ready else []
        if self._door.has_timers:
            self._door.new_turn()
        if len(events) + len(ready) > SHARE:
            events, ready = self._turns.share(events, ready, self._connections)
        for fd, event in events:
            conn = self._connections.get(fd)
            if conn is None:
                others.append(fd)
            else:
                self._on_event(conn, event, batch)
        for conn in ready:
            if self._ready.pop(conn.fd, None) is not None and conn not in batch:
                self._refill(conn)
                batch.append(conn)
        if batch:
            self._serving = True
            self._serve(batch)
            self._serving = False
        for fd in others:
            self._on_other(fd)
        if self._paced or self._leaving or self._door.has_timers:
            self._on_time()

    def _refill(self, conn: Connection) -> None:
        """TLS may hold what no event will tell of."""
        if conn.tls is None or not conn.tls.filled or conn.closing:
            return
        if conn.handshake is None:
            conn.receive(self._pool)
        else:
            conn.receive_handshake()

    def _on_other(self, fd: int) -> None:
        """What is not a client. After the batch: writes received before a fence must not follow it, and a descriptor
        freed in this turn must not become a new client's while events for the old one are still at hand."""
        if fd == self._wake.fd:
            self._run_calls()
        elif fd == self._exports.durable_fd:
            self._durability.told()
            self._answer_durable()
            if self._durability.has_late:
                self._finish([], commit=True)
        elif fd in self._door:
            self._door.accept(fd)

    def _timeout(self) -> float:
        """Seconds until something is due; -1.0 for nothing."""
        if self._ready:
            return 0
        if not (self._paced or self._leaving or self._door.has_timers):
            return -1.0
        due = [conn.resume_at for conn in self._paced.values()]
        if self._leaving:
            due.append(min(conn.deadline for conn in self._leaving.values()))
        if at_door := self._door.due():
            due.append(at_door)
        return max(0.0, min(due) - self._clock.monotonic()) if due else -1.0

    def _on_event(self, conn: Connection, event: int, batch: list[Connection]) -> None:
        if event & select.EPOLLOUT:
            conn.send()
        if event & select.EPOLLIN and conn.mask & select.EPOLLIN:
            if conn.handshake is None:
                conn.receive(self._pool)
            elif self._door.may_read():
                conn.receive_handshake()
            else:
                return
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
        self._finish(batch, commit)

    def _finish(self, batch: list[Connection], commit: bool) -> None:
        position = error = 0
        if commit:
            try:
                position = self._exports.commit()
            except CommitLater:
                self._put_off(batch)
                return
            except Exception as failure:
                if not isinstance(failure, StargateError):
                    log.exception("unforeseen error in commit")
                error = requests.errno_of(failure)
            if self._durability.has_late:
                batch = self._durability.late() + batch
        sync = False
        for conn in batch:
            sync = self._answer(conn, position, error) or sync
            if conn.out and not conn.mask & select.EPOLLOUT:
                conn.send()
        if commit and not error:
            self._exports.committed()
        for conn in batch:
            if conn.staged:
                conn.staged = False
                self._pace(conn)
            self._settle(conn)
        if sync:
            self._sync(position)

    def _sync(self, position: int) -> None:
        """A client that is alone here is answered without waking another thread: it takes as long as the sync."""
        started = time.perf_counter()
        if len(self._connections) > 1 or self._calls or not self._exports.sync_alone():
            self._exports.request_sync(position)
            return
        self._poll.waited_alone(time.perf_counter() - started)
        self._answer_durable()
        self._exports.synced_alone()

    def _answer_durable(self) -> None:
        for conn in self._durability.advance():
            conn.send()
            self._settle(conn)

    def _put_off(self, batch: list[Connection]) -> None:
        """The log has no place yet: who changed something is answered, and read from, after the commit that has."""
        for conn in batch:
            if conn.staged or conn.durable:
                self._durability.put_off(conn)
            if conn.out and not conn.mask & select.EPOLLOUT:
                conn.send()
            self._settle(conn)

    def _stage(self, conn: Connection) -> None:
        if conn.broken or conn.fd < 0:
            return
        try:
            if conn.handshake is not None:
                self._door.advance(conn, self._pool)
            if conn.handshake is None:
                stage(conn)
            if conn.tls is not None:
                conn.more = (conn.more or conn.tls.filled) and not conn.closing
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
        if conn.written and conn.export is not None and conn.export.answers_when_durable:
            conn.durable += conn.written
            conn.written.clear()
        if conn.written:
            conn.queue(OK + OK.join(conn.written))
            conn.written.clear()
        return bool(conn.durable) and self._durability.add(conn, position)

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
        if conn.more and not conn.full and not conn.resume_at:
            self._ready[conn.fd] = conn
        mask = select.EPOLLOUT if conn.out else 0
        if not (conn.closing or conn.more or conn.resume_at or conn.full):
            mask |= select.EPOLLIN
        if mask != conn.mask:
            self._poll.epoll.modify(conn.fd, mask)
            conn.mask = mask

    def _enter(self, conn: Connection) -> None:
        """A new client: greets it."""
        self._connections[conn.fd] = conn
        conn.later = self._later.submit
        conn.mask = select.EPOLLIN
        self._poll.epoll.register(conn.fd, conn.mask)
        conn.send()
        self._settle(conn)

    def _disconnect(self, picked: Callable[[ConnInfo], bool], after_flush: bool, future: Future[int]) -> None:
        leaving = {conn for conn in self._connections.values() if conn.info is not None and picked(conn.info)}
        for conn in leaving:
            conn.closing, conn.more = True, False
            conn.broken = conn.broken or not after_flush
            conn.deadline = self._clock.monotonic() + CLOSE_SECONDS
            self._leaving[conn.fd] = conn
            self._ready.pop(conn.fd, None)
            self._settle(conn)
        self._farewells.add(leaving, future)

    def _close(self, conn: Connection) -> None:
        fd, conn.fd = conn.fd, -1
        for table in (self._connections, self._ready, self._paced, self._leaving):
            table.pop(fd, None)
        self._door.left(fd)
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
        self._farewells.closed(conn)

    def _on_time(self) -> None:
        now = self._clock.monotonic()
        for conn in [conn for conn in self._paced.values() if conn.resume_at <= now]:
            if conn.export is not None and conn.export.pace() == HOLD and not conn.closing:
                conn.resume_at = now + HOLD_SECONDS
                continue
            del self._paced[conn.fd]
            conn.resume_at = 0.0
            self._settle(conn)
        self._door.on_time(now)
        for conn in [conn for conn in self._leaving.values() if conn.deadline <= now]:
            self._close(conn)

    def _run_calls(self) -> None:
        self._wake.clear()
        for _ in range(len(self._calls)):
            function = self._calls.popleft()
            try:
                function()
            except Exception:
                log.exception("a call into the NBD loop failed")

    def _stop(self) -> None:
        self._stopping = True
        self._door.close()
        self._disconnect(lambda info: True, True, Future())

    def _shut_down(self) -> None:
        self._door.close()
        self._later.stop()
        for conn in list(self._connections.values()):
            self._close(conn)
        self._run_calls()
        self._poll.close()
