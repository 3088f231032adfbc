# SPDX-License-Identifier: Apache-2.0
"""Snapshots that are deleted in the log but not yet in the catalog, for a store too full to drain up to there.

Deleting one ahead of the drain is safe when the order is durable and no undrained op names an epoch of it as a parent:
whatever else needs its epochs is in the catalog already, and the store looks there itself.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from stargate.catalog.state import Op, State


class _Gone(NamedTuple):
    position: int
    epochs: frozenset[str]


class Departures:
    """Fed with each log op before the state applies it."""

    def __init__(self) -> None:
        self._gone: dict[str, _Gone] = {}
        self._parents: deque[tuple[int, str]] = deque()
        self._unheard: dict[str, int] = {}

    def note(self, op: Op, position: int, state: State) -> None:
        """`position` = end of the op's batch in the log."""
        kind = op["op"]
        if kind == "snapshot_delete":
            found = state.snapshots.get(op["snapshot"])
            if found is not None:
                self._gone[found.snapshot] = _Gone(position, frozenset(m.epoch for m in found.members))
            else:
                self._unheard[op["snapshot"]] = position
        elif kind in ("create", "set_root") and op.get("parent"):
            self._parents.append((position, op["parent"]))

    def drained(self, covered: int) -> list[str]:
        """The catalog has everything up to `covered`; names the snapshots that were deleted there before the front had
        heard of them: news of theirs may have come since.
        """
        while self._parents and self._parents[0][0] <= covered:
            self._parents.popleft()
        late = [name for name, position in self._unheard.items() if position <= covered]
        for name in late:
            del self._unheard[name]
        if self._gone:
            self._gone = {name: gone for name, gone in self._gone.items() if gone.position > covered}
        return late

    def ready(self, durable: int) -> list[str]:
        """Snapshots that may go from the catalog at once."""
        if not self._gone:
            return []
        needed = {parent for _, parent in self._parents}
        return [name for name, gone in self._gone.items() if gone.position <= durable and not gone.epochs & needed]
