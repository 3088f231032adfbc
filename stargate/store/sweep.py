# SPDX-License-Identifier: Apache-2.0
"""Sweep: delete what the catalog does not need, return the space.

Runs beside drain, fold and incoming snapshots: what they put or find is stamped with an epoch, and kept from the epoch
of the oldest of them on (docs/design/0008). Deleted ranges go back to the file system after the front has let go of
the versions that used them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from stargate.catalog.state import BatchRef
from stargate.clock import Clock
from stargate.errors import DamagedData, Unavailable
from stargate.extents.format import ZERO_HASH
from stargate.extents.store import ExtentStore
from stargate.hot.format import HotTable
from stargate.store.grants import CatalogGrants
from stargate.store.hub import CatalogHub
from stargate.store.reclaim import Reclaim

log = logging.getLogger(__name__)

FRONT_SECONDS = 30.0
"""How long a sweep waits for the front to have applied the catalog's last op."""


class Swept(NamedTuple):
    extents: int
    freed_bytes: int


def at_once(work: Callable[[], None]) -> None:
    work()


class Sweeper:
    """One sweep at a time. `lock` is held meanwhile: whoever walks trees that might be swept takes it too."""

    def __init__(
        self,
        hub: CatalogHub,
        extents: ExtentStore,
        grants: CatalogGrants,
        read_table: Callable[[BatchRef], HotTable],
        clock: Clock,
        spawn: Callable[[Callable[[], None]], None] = at_once,
        rest: Callable[[], None] = lambda: None,
        reclaim: Reclaim | None = None,
    ) -> None:
        """`spawn` runs the return of space when the front has let go of it: elsewhere than where it says so. `rest` is
        called between the steps of a sweep, `reclaim` hears of its begin and end.
        """
        self._rest = rest
        self._reclaim = reclaim or Reclaim(lambda: 0)
        self._hub = hub
        self._read_table = read_table
        self._extents = extents
        self._grants = grants
        self._clock = clock
        self._spawn = spawn
        self._owed = 0  # number of the op after which all that is owed may go back
        self.lock = threading.Lock()
        self._returning = threading.Lock()  # never while a sweep runs; whoever only walks trees is not in the way
        self.swept_at: float | None = None
        self.last_error = ""
        """Why Curator's last sweep or scan failed; empty while all is well."""

    def sweep(self) -> Swept:
        """Raises Unavailable when the front does not follow: it may still read by older versions than the catalog
        knows. Raises MissingExtent, DamagedData when it cannot know what is needed.
        """
        try:
            return self._sweep()
        except BaseException:
            self._reclaim.returned()
            raise

    def _sweep(self) -> Swept:
        with self.lock, self._returning:
            self._reclaim.sweep_begins()
            # Read before the catalog is looked at: a grant that ends in between has published what it protected.
            epoch = self._extents.sweep_begin(self._grants.protected_from())
            number, named = self._named()
            if not self._hub.wait_acked(number, FRONT_SECONDS):
                raise Unavailable("the front does not follow the catalog; start it, or wait, then sweep again")
            count = freed_bytes = 0
            for batch in self._extents.sweep_steps(named, epoch):
                count += len(batch)
                freed_bytes += sum(item.length for item in batch)
                self._rest()
            self._owed = self._hub.commit({"op": "sweep", "sweep": epoch})
            self.swept_at = self._clock.now()
        self._hub.after_ack(self._owed, lambda: self._spawn(self.give_back))
        return Swept(count, freed_bytes)

    def give_back(self) -> None:
        """Return what is owed, also by earlier processes, unless a sweep runs or the front still reads it."""
        if not self._returning.acquire(blocking=False):
            return  # the running sweep asks again at its end, and another call takes all that is owed
        try:
            if self._hub.wait_acked(self._owed, 0.0):
                log.info("returned %d bytes", self._extents.punch())
                self._extents.retire()
        finally:
            self._returning.release()
            self._reclaim.returned()

    def _named(self) -> tuple[int, Named]:
        """(number of the op, what the catalog needed then)."""
        with self._hub.lock:
            epochs = self._hub.state.epochs.values()
            roots = [bytes.fromhex(e.root) for e in epochs if e.root is not None]
            refs = [(e.epoch, ref) for e in epochs if e.root is None for ref in e.batches]
            return self._hub.state.n, Named(self._hub, roots, refs, self._read_table)


class Named:
    """Roots, and the whole chunks that no tree names yet; read again at each use."""

    def __init__(
        self,
        hub: CatalogHub,
        roots: list[bytes],
        refs: list[tuple[str, BatchRef]],
        read_table: Callable[[BatchRef], HotTable],
    ) -> None:
        self._hub = hub
        self._roots = roots
        self._refs = refs
        self._read_table = read_table

    def __iter__(self) -> Iterator[bytes]:
        yield from self._roots
        for epoch, ref in self._refs:
            for _, digest in chunks_of(self._hub, epoch, ref, self._read_table):
                yield digest


def chunks_of(
    hub: CatalogHub, epoch: str, ref: BatchRef, read_table: Callable[[BatchRef], HotTable]
) -> list[tuple[int, bytes]]:
    """Whole chunks of a hot batch, no holes; none when its epoch was folded or dropped meanwhile: the fold claimed them
    for the new tree, and the region may hold something else by now. Raises DamagedData.
    """
    try:
        chunks = read_table(ref).chunks
    except DamagedData:
        with hub.lock:
            found = hub.state.epochs.get(epoch)
            if found is not None and ref in found.batches:
                raise
        return []
    return [(chunk, digest) for chunk, digest in chunks if digest != ZERO_HASH]
