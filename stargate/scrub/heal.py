# SPDX-License-Identifier: Apache-2.0
"""Healing: damaged or missing chunks and nodes from what is here, then from sites that share a tree with them.

Every byte passes the full check of an ingest before it counts; the old place is noted as freed in the transaction that
points the index at the new one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from stargate.clock import Clock
from stargate.errors import StargateError
from stargate.extents.store import ExtentStore
from stargate.peer.frame import FETCH_PLACES_MAX
from stargate.peer.items import Item, Place
from stargate.scrub import local
from stargate.scrub.places import find

log = logging.getLogger(__name__)

ROUNDS_MAX = 16
"""A healed node shows what is damaged below it; a tree has at most this many levels."""

WAITING_MAX = 65536
RETRY_SECONDS = 600.0
"""How long a reader's request for what is lost goes to no peer again. The scrub asks with each pass."""


class Source(Protocol):
    """A paired site that may be asked."""

    site_id: str

    def roots(self) -> Iterable[bytes]:
        """Trees that both sites have."""
        ...

    def fetch(self, root: bytes, places: Sequence[Place]) -> Sequence[Item] | None:
        """What is there and whole; None: that site does not share this tree (any more). Raises StargateError."""
        ...

    def close(self) -> None: ...


class Outcome(NamedTuple):
    """`unneeded`: damaged too, but no tree and no hot table names it; the sweep takes it."""

    healed: set[bytes]
    lost: set[bytes]
    unneeded: set[bytes]


class Healer:
    """`heal` is for any thread, one at a time; `ask` returns at once."""

    def __init__(
        self,
        extents: ExtentStore,
        roots: Callable[[], Iterable[bytes]],
        chunks: Callable[[], Iterable[bytes]],
        sources: Callable[[], Sequence[Source]],
        told: Callable[[Outcome], None],
        clock: Clock,
    ) -> None:
        """`roots`: all trees of this site; `chunks`: what is named besides. `told` hears of each outcome."""
        self._extents = extents
        self._roots = roots
        self._chunks = chunks
        self._sources = sources
        self._told = told
        self._clock = clock
        self._lock = threading.Lock()
        self._above: set[bytes] = set()
        self._lost: dict[bytes, float] = {}
        self._wake = threading.Condition()
        self._asked: set[bytes] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="healer", daemon=True)

    # -- in the background

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(10)

    def ask(self, digests: Iterable[bytes]) -> None:
        """A reader met these; they are healed in the background if they can be."""
        before = self._clock.monotonic() - RETRY_SECONDS
        with self._wake:
            if len(self._asked) < WAITING_MAX:
                self._asked.update(d for d in digests if d and self._lost.get(d, before) <= before)
                self._wake.notify_all()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._asked or self._stopping)
                if self._stopping:
                    return
            self.turn()

    def turn(self) -> None:
        """Heal what was asked for."""
        with self._wake:
            asked, self._asked = self._asked, set()
        try:
            if asked:
                self.heal(asked)
        except Exception:  # nobody would miss a thread that ended
            log.exception("damaged data could not be healed; it is tried again when it is met again")

    # -- healing

    def heal(self, digests: Iterable[bytes]) -> Outcome:
        """Raises NoSpace, StoreFrozen; nothing is worse than before then."""
        wanted = set(digests)
        with self._lock, self._extents.hold():
            self._extents.suspect(wanted)
            healed = local.heal(self._extents, wanted)
            lost = wanted - healed
            for source in self._sources() if lost else ():
                try:
                    self._from(source, lost, healed)
                except StargateError as exc:
                    log.warning("site %s cannot help to heal: %s", source.site_id, exc.message)
                finally:
                    source.close()
                if not lost:
                    break
            outcome = Outcome(healed, *self._note_lost(lost))
        log.warning("damaged data: %d extents healed, %d lost, %d unneeded", *map(len, outcome))
        self._told(outcome)
        return outcome

    def review(self) -> None:
        """Guests and syncs may have stored lost bytes anew: what stands above them is whole again."""
        with self._lock:
            if self._lost or self._above:
                self._note_lost({digest for digest in self._lost if not local.is_sound(self._extents, digest)})

    def _from(self, source: Source, lost: set[bytes], healed: set[bytes]) -> None:
        """Moves from `lost` to `healed` what the site gives; nodes that turn out unreadable join `lost`."""
        roots = sorted(source.roots())
        for _ in range(ROUNDS_MAX):
            found = find(self._extents, roots, lost)
            lost |= set(found.places)
            got, refused = self._fetch(source, found.places)
            healed |= got
            lost -= got
            if refused:  # that site deleted snapshots: what stands in their trees may stand in others too
                roots = [root for root in roots if root not in refused and source.fetch(root, ()) is not None]
            elif not got:
                return

    def _fetch(self, source: Source, places: dict[bytes, tuple[bytes, Place]]) -> tuple[set[bytes], set[bytes]]:
        """What is whole again, and the trees that the site does not share."""
        refused: set[bytes] = set()
        by_root: dict[bytes, dict[bytes, Place]] = {}
        for digest, (root, place) in places.items():
            by_root.setdefault(root, {})[digest] = place
        got: set[bytes] = set()
        for root, wanted in by_root.items():
            queue = list(wanted.items())
            while queue:
                asked = queue[:FETCH_PLACES_MAX]
                items = source.fetch(root, [place for _, place in asked])
                if items is None:
                    refused.add(root)
                    break
                answered = self._put(items, wanted.keys())
                # An answer that was full ends early; what it left out before its last item is not whole there.
                last = max((n for n, (digest, _) in enumerate(asked) if digest in answered), default=len(asked) - 1)
                got |= answered
                queue = queue[last + 1 :]
        self._extents.flush()
        return {digest for digest in sorted(got) if local.is_sound(self._extents, digest)}, refused

    def _put(self, items: Sequence[Item], wanted: Collection[bytes]) -> set[bytes]:
        """Which were stored. What nobody asked for is not: nobody looks for children here, so a site could plant nodes
        without any.
        """
        known = [item for item in items if item.hash in wanted]
        for item in known:
            self._extents.put_verified(item.kind, item.hash, item.codec, bytes(item.payload), item.usize, repair=True)
        return {item.hash for item in known}

    def _note_lost(self, damaged: set[bytes]) -> tuple[set[bytes], set[bytes]]:
        """What of it is lost, and what nobody needs.

        A node over something lost is no complete subtree: a peer that asks hears so, and sends what is missing.
        """
        self._extents.acquit(self._above - damaged)
        self._above = set()
        lost = set()
        if damaged:
            found = find(self._extents, self._roots(), damaged)
            lost = damaged & found.places.keys() | damaged.intersection(self._chunks())
            self._above = found.above
        self._lost = dict.fromkeys(sorted(lost), self._clock.monotonic())
        self._extents.suspect(self._above)
        return lost, damaged - lost
