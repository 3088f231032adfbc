# SPDX-License-Identifier: Apache-2.0
"""Who is served in a turn when more clients have work than a turn takes, or when several exports compete.

The longest unserved come first, and where several exports have work, one gets at most `SHARE` connections of a turn: an
export that floods the server over many connections slows itself down, its neighbours wait for two of them at most. What
one connection may do in a turn is bounded in `stage`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stargate.nbd.connection import Connection

SERVED = 16
"""Connections in one turn."""
SHARE = 2


class Turns:
    """Counts turns under contention; `Connection.turn` says when one was served last."""

    def __init__(self) -> None:
        self._turn = 0

    def share(
        self, events: list[tuple[int, int]], ready: list[Connection], connections: Mapping[int, Connection]
    ) -> tuple[list[tuple[int, int]], list[Connection]]:
        """What is dealt with now; the rest is still readable, or ready, in the next turn. Events (fd, mask) of no
        connection always are."""
        known = {fd: conn for fd, _ in events if (conn := connections.get(fd)) is not None}
        picked = self.pick([*ready, *known.values()]) if ready or known else set()
        now = [(fd, event) for fd, event in events if fd not in known or known[fd] in picked]
        return now, [conn for conn in ready if conn in picked]

    def pick(self, candidates: Sequence[Connection]) -> set[Connection]:
        """Who is served now; the others are still there next time. Clients in negotiation count as one export."""
        left = dict.fromkeys(map(_export_of, candidates), SHARE)
        if len(left) == 1:
            if len(candidates) <= SERVED:
                return set(candidates)
            left = dict.fromkeys(left, SERVED)
        self._turn += 1
        picked: set[Connection] = set()
        for conn in sorted(candidates, key=lambda conn: conn.turn):
            name = _export_of(conn)
            if left[name] and len(picked) < SERVED:
                left[name] -= 1
                conn.turn = self._turn
                picked.add(conn)
        return picked


def _export_of(conn: Connection) -> str:
    return "" if conn.export is None else conn.export.name
