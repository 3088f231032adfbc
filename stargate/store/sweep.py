# SPDX-License-Identifier: Apache-2.0
"""Sweep and space accounting (Curator's first form): mark from every root the catalog knows, delete the rest, return
the space.

Runs beside drain and fold: what they put or find meanwhile is stamped with the sweep's epoch. Incoming snapshots that
are not yet
published have no root in the catalog, so a sweep waits until none is under way. Deleted ranges go back to the file
system
after the front has let go of the versions that used them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

from stargate.catalog.state import BatchRef
from stargate.clock import Clock
from stargate.errors import Unavailable
from stargate.extents.format import extent_bytes
from stargate.extents.store import ExtentStore
from stargate.extents.tree import reachable
from stargate.hot.format import HotTable
from stargate.store.grants import CatalogGrants
from stargate.store.hub import CatalogHub

log = logging.getLogger(__name__)


FRONT_SECONDS = 30.0
"""How long a sweep waits for the front to have applied the catalog's last op."""


class Swept(NamedTuple):
    extents: int
    freed_bytes: int


class Sweeper:
    """One sweep or scan at a time."""

    def __init__(
        self,
        hub: CatalogHub,
        extents: ExtentStore,
        grants: CatalogGrants,
        read_table: Callable[[BatchRef], HotTable],
        clock: Clock,
    ) -> None:
        self._hub = hub
        self._read_table = read_table
        self._extents = extents
        self._grants = grants
        self._clock = clock
        self._lock = threading.Lock()
        self.exclusive_bytes: dict[str, int] = {}
        self.scanned_at: float | None = None

    def sweep(self) -> Swept:
        """Raises Unavailable while snapshots are coming in, or when the front does not follow: it may still read by
        older
        versions than the catalog knows.
        """
        with self._lock:
            if self._grants.open_grants():
                raise Unavailable("snapshots are coming in from another site; the sweep waits until they are complete")
            epoch = self._extents.sweep_begin()
            number, live = self._live()
            if not self._hub.wait_acked(number, FRONT_SECONDS):
                raise Unavailable("the front does not follow the catalog; start it, or wait, then sweep again")
            freed = self._extents.sweep_delete(live, epoch)
            owed = self._extents.index.freed()  # with what an earlier process could not return
            number = self._hub.commit({"op": "sweep", "sweep": epoch})
            self._hub.after_ack(number, lambda: log.info("returned %d bytes", self._extents.punch(owed)))
            return Swept(len(freed), sum(item.length for item in freed))

    def _live(self) -> tuple[int, set[bytes]]:
        """(number of the op, what the catalog needed then): all trees, and whole chunks that no tree names yet."""
        with self._hub.lock:
            epochs = self._hub.state.epochs.values()
            roots = [bytes.fromhex(e.root) for e in epochs if e.root is not None]
            refs = [ref for e in epochs if e.root is None for ref in e.batches]
            number = self._hub.state.n
        found = reachable(self._extents, roots)
        for ref in refs:
            found.update(digest for _, digest in self._read_table(ref).chunks)
        return number, found

    # -- accounting ---------------------------------------------------------------------------------------------------

    def scan(self) -> dict[str, int]:
        """Stored bytes that each snapshot alone holds: what deleting only this one gives back. As of this scan."""
        with self._lock:
            owners = self._owners()
            holder: dict[bytes, str] = {}
            for root, names in owners.items():
                owner = next(iter(names)) if len(names) == 1 else _SHARED
                for digest in reachable(self._extents, [root]):
                    holder[digest] = owner if holder.get(digest, owner) == owner else _SHARED
            found = {name: 0 for names in owners.values() for name in names if name != _LIVE}
            for digest, owner in holder.items():
                if owner in found:
                    found[owner] += self._stored_bytes(digest)
            self.exclusive_bytes, self.scanned_at = found, self._clock.now()
            return found

    def _owners(self) -> dict[bytes, set[str]]:
        """Root -> snapshots that have it, and `live` when a vDisk reads through it. Only snapshots that are rooted."""
        owners: dict[bytes, set[str]] = {}
        with self._hub.lock:
            state = self._hub.state
            for snapshot in state.snapshots.values():
                if state.snapshot_state(snapshot) == "rooted":
                    for member in snapshot.members:
                        owners.setdefault(bytes.fromhex(state.epochs[member.epoch].root or ""), set()).add(
                            snapshot.snapshot
                        )
            for disk in state.vdisks.values():
                at: str | None = disk.head
                while at is not None and state.epochs[at].root is None:
                    at = state.epochs[at].parent
                if at is not None:
                    owners.setdefault(bytes.fromhex(state.epochs[at].root or ""), set()).add(_LIVE)
        return owners

    def _stored_bytes(self, digest: bytes) -> int:
        location = self._extents.index.get(digest)
        return 0 if location is None else extent_bytes(location.stored_bytes)


_LIVE = "live"
_SHARED = "shared"
