# SPDX-License-Identifier: Apache-2.0
"""Who asked to be told when clients are gone."""

from __future__ import annotations

from concurrent.futures import Future

from stargate.nbd.connection import Connection


class Farewells:
    """In the server's loop thread."""

    def __init__(self) -> None:
        self._waiting: list[tuple[set[Connection], int, Future[int]]] = []

    def add(self, leaving: set[Connection], future: Future[int]) -> None:
        """Gives `future` the number of `leaving` once all are closed; some, or all, may be already."""
        left = {conn for conn in leaving if conn.fd >= 0}
        if left:
            self._waiting.append((left, len(leaving), future))
        else:
            future.set_result(len(leaving))

    def closed(self, conn: Connection) -> None:
        for farewell in list(self._waiting):
            left, count, future = farewell
            left.discard(conn)
            if not left:
                self._waiting.remove(farewell)
                future.set_result(count)
