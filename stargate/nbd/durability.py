# SPDX-License-Identifier: Apache-2.0
"""Which replies wait: FLUSH and FUA for a position of the log to be durable, a batch for its place in the log."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from math import inf

from stargate.nbd import requests, wire
from stargate.nbd.connection import Connection
from stargate.nbd.exports import Exports

OK = wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, 0, bytes(8))[:8]
"""A good simple reply up to its cookie."""


class DurabilityQueue:
    """In order of position, as positions only grow."""

    def __init__(self, exports: Exports) -> None:
        self._exports = exports
        self._waiting: deque[tuple[int, Connection, list[bytes]]] = deque()
        self._late: list[Connection] = []

    def add(self, conn: Connection, position: int) -> bool:
        """Takes the cookies in `conn.durable`; answers them at once if that is possible. True if a sync is needed."""
        cookies, conn.durable = conn.durable, []
        frozen = self._exports.sync_error()
        if frozen is not None:
            conn.queue(_failed(cookies, requests.errno_of(frozen)))
            return False
        if self._exports.durable() >= position:
            conn.queue(OK + OK.join(cookies))
            return False
        conn.waiting += len(cookies)
        self._waiting.append((position, conn, cookies))
        return True

    def put_off(self, conn: Connection) -> None:
        """What it staged has no place in the log yet (CommitLater): not answered, nor read from, before `late`."""
        conn.resume_at = inf
        conn.waiting += 1
        self._late.append(conn)

    @property
    def has_late(self) -> bool:
        return bool(self._late)

    def late(self) -> list[Connection]:
        """The connections put off, for the commit came: to be answered with the batch that it was."""
        late, self._late = self._late, []
        for conn in late:
            conn.resume_at = 0.0
            conn.waiting -= 1
        return [conn for conn in late if conn.fd >= 0]

    def told(self) -> None:
        """Empties `durable_fd`, before `advance` looks."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._exports.durable_fd)

    def advance(self) -> list[Connection]:
        """Queues the replies that became possible: the durable ones, or errors for all others once the log froze."""
        frozen = self._exports.sync_error()
        durable = self._exports.durable()
        touched: dict[int, Connection] = {}
        while self._waiting and (frozen is not None or self._waiting[0][0] <= durable):
            position, conn, cookies = self._waiting.popleft()
            if conn.fd < 0:
                continue
            if position <= durable or frozen is None:
                conn.queue(OK + OK.join(cookies))
            else:
                conn.queue(_failed(cookies, requests.errno_of(frozen)))
            conn.waiting -= len(cookies)
            touched[conn.fd] = conn
        return list(touched.values())


def _failed(cookies: list[bytes], error: int) -> bytes:
    return b"".join(requests.simple_reply(cookie, error) for cookie in cookies)
