# SPDX-License-Identifier: Apache-2.0
"""Space accounting: what deleting a snapshot, all of a domain, or any set of snapshots gives back.

A scan remembers only how many bytes each set of owners holds; every question is a sum over these, exact as of the scan.
Before one has met a snapshot there is an estimate, and it is called one.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from stargate.catalog.state import BatchRef, State
from stargate.clock import Clock
from stargate.extents.census import LIVE, census
from stargate.extents.format import extent_bytes
from stargate.extents.store import ExtentStore
from stargate.extents.tree import diff
from stargate.hot.format import HotTable
from stargate.store.hub import CatalogHub
from stargate.store.sweep import chunks_of

ESTIMATE_CHUNKS_MAX = 200_000
"""Changed chunks looked at for one estimate (some seconds); with more there is none."""


@dataclass(frozen=True, slots=True)
class Scan:
    """`numbers`: snapshot -> its bit; `sizes`: owners -> bytes that exactly these hold. `at` = when it looked."""

    at: float
    numbers: dict[str, int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)

    def freed_by(self, snapshots: Iterable[str]) -> int:
        """Bytes given back when all of these go, and nothing else. Unknown ones count nothing."""
        gone = 0
        for snapshot in snapshots:
            gone |= self.numbers.get(snapshot, 0)
        return sum(size for owners, size in self.sizes.items() if not owners & ~gone)


@dataclass(frozen=True, slots=True)
class WhatIf:
    """`freed_bytes` None: nobody knows yet. `exact`: as of `scanned_at`; otherwise an estimate."""

    freed_bytes: int | None
    exact: bool
    scanned_at: float | None


class Accounts:
    """Scans and answers. `guard` is held during a scan or estimate: nothing is swept meanwhile."""

    def __init__(
        self,
        hub: CatalogHub,
        extents: ExtentStore,
        read_table: Callable[[BatchRef], HotTable],
        clock: Clock,
        guard: threading.Lock,
    ) -> None:
        self._hub = hub
        self._extents = extents
        self._read_table = read_table
        self._clock = clock
        self._guard = guard
        self._last: Scan | None = None

    @property
    def scanned_at(self) -> float | None:
        return self._last.at if self._last is not None else None

    def scan(self) -> Scan:
        """Raises DamagedData, MissingExtent."""
        with self._guard:
            with self._hub.lock:
                at = self._clock.now()
                numbers, owners = _owners(self._hub.state)
                epochs = self._hub.state.epochs
                roots: Counter[bytes] = Counter()
                refs: list[tuple[str, BatchRef, int]] = []
                for name, mask in owners.items():
                    root = epochs[name].root
                    if root is not None:
                        roots[bytes.fromhex(root)] |= mask
                    else:
                        refs += [(name, ref, mask) for ref in epochs[name].batches]

            def chunks() -> Iterator[tuple[bytes, int]]:
                for name, ref, mask in refs:
                    for _, digest in chunks_of(self._hub, name, ref, self._read_table):
                        yield digest, mask

            masks = {root: LIVE if mask & LIVE else mask for root, mask in roots.items()}
            self._last = Scan(at, numbers, census(self._extents, masks, chunks))
            return self._last

    def reclaimable(self, snapshots: Iterable[str]) -> dict[str, int | None]:
        """What deleting only this one gives back, each; None where no scan has met it."""
        return {s: self.exclusive([s]) for s in snapshots}

    def exclusive(self, snapshots: Collection[str]) -> int | None:
        """Bytes that these alone hold together; None where no scan has met one of them."""
        last = self._last
        if last is None or any(s not in last.numbers for s in snapshots):
            return None
        return last.freed_by(snapshots)

    def what_if(self, snapshots: Collection[str]) -> WhatIf:
        """What deleting all of these gives back. Those that went since the scan count nothing; those that nobody has
        met yet (not drained, or long gone) make it an estimate.
        """
        last = self._last
        with self._hub.lock:
            present = [s for s in dict.fromkeys(snapshots) if s in self._hub.state.snapshots]
        if last is not None and all(s in last.numbers for s in snapshots):
            return WhatIf(last.freed_by(present), True, last.at)
        guess = self._estimate(present) if present or not snapshots else None
        return WhatIf(guess, False, self.scanned_at)

    def _estimate(self, snapshots: Collection[str]) -> int | None:
        """Bytes of chunks that differ, at their place, from the nearest versions before and after that stay."""
        if not self._guard.acquire(timeout=1.0):
            return None
        try:
            with self._hub.lock:
                found = _neighbours(self._hub.state, set(snapshots))
            if found is None:
                return None
            gone: set[bytes] = set()
            for root, before, after in found:
                gone |= self._own(root, before) & self._own(root, after)
                if len(gone) > ESTIMATE_CHUNKS_MAX:
                    return None
            locations = self._extents.index.get_many(sorted(gone))
            return sum(extent_bytes(location.stored_bytes) for location in locations if location is not None)
        finally:
            self._guard.release()

    def _own(self, root: bytes, other: bytes | None) -> set[bytes]:
        changes = islice(diff(self._extents, other, root), ESTIMATE_CHUNKS_MAX + 1)
        return {new for _, _, new in changes if any(new)}


def _owners(state: State) -> tuple[dict[str, int], dict[str, int]]:
    """(snapshot -> bit of each that is rooted, epoch -> owners that read through it): as `State.needed_epochs`, with
    names.
    """
    numbers = {name: 2 << at for at, name in enumerate(state.snapshots)}
    starts = [(disk.head, LIVE) for disk in state.vdisks.values()]
    starts += [(m.epoch, numbers[s.snapshot]) for s in state.snapshots.values() for m in s.members]
    owners: Counter[str] = Counter()
    for name, mask in starts:
        at: str | None = name
        while at is not None and at in state.epochs:
            owners[at] |= mask
            at = state.epochs[at].parent if state.epochs[at].root is None else None
    rooted = {n: bit for n, bit in numbers.items() if state.snapshot_state(state.snapshots[n]) == "rooted"}
    return rooted, dict(owners)


def _neighbours(state: State, going: set[str]) -> list[tuple[bytes, bytes | None, bytes | None]] | None:
    """(root, the nearest staying root before, after) for each disk of the snapshots; None when one is not rooted."""
    versions: dict[str, list[tuple[float, str, str | None]]] = {}
    for snapshot in state.snapshots.values():
        for member in snapshot.members:
            root = state.epochs[member.epoch].root
            versions.setdefault(member.disk, []).append((snapshot.created_at, snapshot.snapshot, root))
    found: list[tuple[bytes, bytes | None, bytes | None]] = []
    for disk, rows in versions.items():
        rows.sort()
        head = _rooted_below(state, state.vdisks[disk].head) if disk in state.vdisks else None
        for at, (_, name, root) in enumerate(rows):
            if name not in going:
                continue
            if root is None:
                return None
            before = next((r for _, n, r in reversed(rows[:at]) if n not in going and r is not None), None)
            after = next((r for _, n, r in rows[at + 1 :] if n not in going and r is not None), head)
            found.append((bytes.fromhex(root), _hash(before), _hash(after)))
    return found


def _hash(root: str | None) -> bytes | None:
    return None if root is None else bytes.fromhex(root)


def _rooted_below(state: State, epoch: str) -> str | None:
    at: str | None = epoch
    while at is not None and at in state.epochs:
        if state.epochs[at].root is not None:
            return state.epochs[at].root
        at = state.epochs[at].parent
    return None
