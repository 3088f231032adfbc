# SPDX-License-Identifier: Apache-2.0
"""Long reads beside the loop: one thread fetches them while the loop sends what was fetched before, and serves others.

The loop says where the bytes lie, the thread reads and checks them, the loop answers. What the thread cannot read the
loop reads itself, by a fresh look: what was moved or returned meanwhile is found at its new place, and what is damaged
gets its error there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from select import EPOLLOUT

from stargate.errors import StargateError
from stargate.nbd.connection import Connection, LateRead
from stargate.nbd.exports import Buffer
from stargate.nbd.stage import answer_later

log = logging.getLogger(__name__)


class LaterReads:
    """`call_soon` runs a function in the loop; `settle` (in the loop) goes on with a connection that was answered."""

    def __init__(
        self,
        call_soon: Callable[[Callable[[], object]], None],
        settle: Callable[[Connection], None],
    ) -> None:
        self._call_soon = call_soon
        self._settle = settle
        self._jobs: SimpleQueue[LateRead | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, read: LateRead) -> None:
        """In the loop. The connection does not end before it is answered, but by force."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="reads", daemon=True)
            self._thread.start()
        read.conn.waiting += 1
        read.conn.later_bytes += read.length
        self._jobs.put(read)

    def stop(self) -> None:
        """No answer comes any more."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(10)

    def _run(self) -> None:
        while (read := self._jobs.get()) is not None:
            self._call_soon(partial(self._arrived, read, self._fetch(read)))

    def _fetch(self, read: LateRead) -> Sequence[Buffer] | None:
        if read.conn.fd < 0:
            return None
        try:
            return read.job()
        except StargateError as exc:
            log.info("a long read is tried again in the loop: %s", exc.message)
        except Exception:
            log.exception("a long read failed; it is tried again in the loop")
        return None

    def _arrived(self, read: LateRead, parts: Sequence[Buffer] | None) -> None:
        conn = read.conn
        conn.waiting -= 1
        conn.later_bytes -= read.length
        if conn.fd < 0:
            return
        answer_later(read, parts)
        if conn.out and not conn.mask & EPOLLOUT:
            conn.send()
        self._settle(conn)
