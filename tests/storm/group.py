# SPDX-License-Identifier: Apache-2.0
"""A group of disks under verified load, its snapshots and clones, and the orders that a storm gives while it kills.

Every order notes beforehand what may be true if it is cut off, so that after a kill nothing has to be taken on trust.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
import uuid
from dataclasses import dataclass, field

from stargate.errors import StargateError
from tests.storm.pair import Pair
from tests.support.engine_site import EngineSite
from tests.support.load import Load
from tests.support.oracle import BLOCK

DISKS, WRITERS, BLOCKS = 3, 3, 256
POINTS_MAX, COPIES_MAX, SENT_MAX = 6, 4, 2


def digest(site: EngineSite, name: str) -> str:
    return hashlib.sha256(site.content(name)).hexdigest()


@dataclass(slots=True)
class Point:
    """A snapshot. `returned_at` is infinite until its order has returned, `digests` None until it was judged."""

    ordered_at: float
    returned_at: float = math.inf
    digests: list[str] | None = None
    deleting: bool = False

    @property
    def certain(self) -> bool:
        return self.returned_at < math.inf and not self.deleting


@dataclass(slots=True)
class Copy:
    """A clone that nobody writes to: what it may hold. `certain` = its creation has returned."""

    allowed: set[str] = field(default_factory=set)
    certain: bool = False


class Group:
    """See the module. `pair`: the site and the one it replicates to; None: it has no peer."""

    def __init__(self, site: EngineSite, seed: int, pair: Pair | None = None) -> None:
        self.pair = pair
        self.site = site
        self.seed = seed
        self.disks = [self.site.disk(BLOCKS * BLOCK) for _ in range(DISKS)]
        self.load = Load(self.disks, blocks=BLOCKS, writers=WRITERS, seed=seed, pace_seconds=0.0005, fua_every=7)
        self.points: dict[str, Point] = {}
        self.copies: dict[str, Copy] = {}
        self.sent: dict[str, list[str]] = {}  # published on the other site, with their digests
        self.sending: str | None = None  # ordered, not known to be published
        self.rng = random.Random(seed)

    # -- orders -------------------------------------------------------------------------------------------------------

    def order(self, kind: str) -> None:
        """One order of this kind; raises what the engine or its death raises."""
        getattr(self, f"order_{kind}")()

    def order_snapshot(self) -> str:
        snapshot = str(uuid.uuid4())
        point = self.points[snapshot] = Point(time.monotonic())
        self.site.engine.snapshot_create(snapshot, self.disks, manifest={"storm": self.seed})
        point.returned_at = time.monotonic()
        return snapshot

    def order_fold(self) -> None:
        self.site.engine.wait_rooted(self.order_snapshot())

    def order_delete(self) -> None:
        while len(known := [point for point in self._known_points() if point != self.sending]) < 3:
            self.order_snapshot()
        snapshot = self.rng.choice(known)
        self.points[snapshot].deleting = True
        self.site.engine.snapshot_delete(snapshot)
        del self.points[snapshot]

    def _known_points(self) -> list[str]:
        return sorted(snapshot for snapshot, point in self.points.items() if point.certain)

    def _some_point(self) -> str:
        points = self._known_points()
        return self.rng.choice(points) if points else self.order_snapshot()

    def order_clone(self) -> None:
        snapshot, number = self._some_point(), self.rng.randrange(DISKS)
        expected = self._digest_of(snapshot, number)
        vdisk = str(uuid.uuid4())
        copy = self.copies[vdisk] = Copy({expected})
        self.site.engine.vdisk_create(
            vdisk, 0, export_name=f"clone-{vdisk[:8]}", source={"snapshot": snapshot, "disk": self.disks[number]}
        )
        copy.certain = True

    def order_restore(self) -> None:
        """Of a clone, to any point: it is the one or the other afterwards, never a mixture."""
        known = sorted(vdisk for vdisk, copy in self.copies.items() if copy.certain)
        if not known:
            self.order_clone()
            return
        vdisk, snapshot, number = self.rng.choice(known), self._some_point(), self.rng.randrange(DISKS)
        expected = self._digest_of(snapshot, number)
        self.copies[vdisk].allowed.add(expected)
        self.site.engine.restore(snapshot, {self.disks[number]: vdisk})
        self.copies[vdisk].allowed = {expected}

    def _digest_of(self, snapshot: str, number: int) -> str:
        known = self.points[snapshot].digests
        return known[number] if known else digest(self.site, f"snapshot:{snapshot}:{self.disks[number]}")

    def order_sweep(self) -> None:
        self.order_delete()
        self.site.engine.sweep()

    def order_sync(self) -> None:
        """Send a point to the other site; the last one that got there is the base."""
        snapshot = self.sending = self.sending or self._some_point()
        base = next(reversed(self.sent), None)
        assert self.pair is not None
        self.pair.send(snapshot, base)
        self.sent[snapshot] = [self._digest_of(snapshot, number) for number in range(DISKS)]
        self.sending = None

    # -- checks -------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """All that was acknowledged is there, all that was deleted is gone, and no snapshot has changed."""
        there = {s["snapshot"] for s in self.site.engine.snapshots()}
        self._settle_points(there)
        self.load.judge_everything(self.site.open)
        for snapshot, point in self.points.items():
            self._check_point(snapshot, point)
        self._check_copies()
        self._check_sent()
        self.load.settle(self.site.open)
        self._tidy()

    def _settle_points(self, there: set[str]) -> None:
        for snapshot, point in list(self.points.items()):
            if snapshot in there:
                point.deleting = False
            elif point.certain:
                raise AssertionError(f"snapshot {snapshot} is gone although its order had returned")
            else:
                del self.points[snapshot]
        unknown = there - set(self.points)
        assert not unknown, f"deleted snapshots are back: {sorted(unknown)}"

    def _check_point(self, snapshot: str, point: Point) -> None:
        names = [f"snapshot:{snapshot}:{disk}" for disk in self.disks]
        found = [digest(self.site, name) for name in names]
        if point.digests is None:
            now = time.monotonic()
            self.load.judge(self.site.open, names, ordered_at=point.ordered_at, returned_at=min(point.returned_at, now))
            point.digests, point.returned_at = found, min(point.returned_at, now)
        assert found == point.digests, f"snapshot {snapshot} has changed"

    def _check_copies(self) -> None:
        there = {d["vdisk"] for d in self.site.engine.vdisks()}
        for vdisk, copy in list(self.copies.items()):
            if vdisk not in there:
                assert not copy.certain, f"clone {vdisk} is gone although its order had returned"
                del self.copies[vdisk]
                continue
            found = digest(self.site, vdisk)
            assert found in copy.allowed, f"clone {vdisk} holds neither of what it may hold"
            copy.allowed, copy.certain = {found}, True

    def _check_sent(self) -> None:
        """What the other site showed once stays as it is; what it did not acknowledge is whole or absent."""
        if self.pair is None:
            return
        site = self.pair.there
        there = {s["snapshot"] for s in site.engine.snapshots()}
        assert set(self.sent) <= there, f"gone from the other site: {sorted(set(self.sent) - there)}"
        unknown = there - set(self.sent) - {self.sending}
        assert not unknown, f"deleted snapshots are back on the other site: {sorted(unknown)}"
        for snapshot in sorted(there):
            found = [digest(site, f"snapshot:{snapshot}:{disk}") for disk in self.disks]
            expected = self.sent.get(snapshot) or self.points[snapshot].digests
            assert found == expected, f"snapshot {snapshot} differs on the other site"
            self.sent[snapshot] = found
        if self.sending in there:
            self.sending = None  # it got there, although its order was cut off

    def _tidy(self) -> None:
        """Bound what the next check has to read. Orders cut off here are settled by that check."""
        while len(self._known_points()) > POINTS_MAX:
            snapshot = next(s for s in self.points if s != self.sending)
            del self.points[snapshot]
            self.site.engine.snapshot_delete(snapshot)
        while len(self.copies) > COPIES_MAX:
            vdisk = next(iter(self.copies))
            del self.copies[vdisk]
            self.site.engine.vdisk_delete(vdisk)
        while self.pair is not None and len(self.sent) > SENT_MAX:
            snapshot = next(iter(self.sent))
            del self.sent[snapshot]
            self.pair.there.engine.snapshot_delete(snapshot)


ORDER_FAILURES = (StargateError, OSError)
