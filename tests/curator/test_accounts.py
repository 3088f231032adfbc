# SPDX-License-Identifier: Apache-2.0
"""What a scan says a deletion gives back is what the deletion gives back, to the byte."""

from __future__ import annotations

import random
import uuid
from random import Random

import pytest

from stargate.extents import sweep
from stargate.store.accounts import Accounts
from stargate.units import KiB
from tests.engine.harness import Site, commit

CHUNK = 64 * KiB
CHUNKS = 6


class Shop:
    """A site whose disks, snapshots and clones share chunks in every way there is."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.site = Site(rng)
        self.site.start()
        self.disks: list[str] = []
        self.points: dict[str, list[str]] = {}
        self.pool = [rng.randbytes(CHUNK) for _ in range(5)]

    @property
    def orders(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        assert self.site.front is not None
        return self.site.front.orders

    def accounts(self) -> Accounts:
        store = self.site.store
        assert store is not None
        return Accounts(store.hub, store.extents, self.site._table, self.site.clock, store.sweeper.lock)

    def step(self) -> None:
        choice = self.rng.random()
        if not self.disks or choice < 0.1:
            self.disk(None)
        elif choice < 0.6:
            self.write(self.rng.choice(self.disks))
        elif choice < 0.85:
            self.snapshot()
        elif choice < 0.93 and self.points:
            self.disk(self.rng.choice(list(self.points)))
        elif len(self.disks) > 1:
            gone = self.disks.pop(self.rng.randrange(len(self.disks)))
            self.orders.do_vdisk_delete(gone, None)

    def disk(self, point: str | None) -> None:
        name = str(uuid.UUID(int=self.rng.getrandbits(128)))
        source = {"snapshot": point, "disk": self.rng.choice(self.points[point])} if point else None
        self.orders.do_vdisk_create(name, CHUNKS * CHUNK, name, "active", source, None)
        self.disks.append(name)

    def write(self, disk: str) -> None:
        assert self.site.front is not None
        at, kind = self.rng.randrange(CHUNKS) * CHUNK, self.rng.random()
        export = self.site.front.exports.lookup(disk)
        if kind < 0.4:
            export.write(at, memoryview(self.rng.choice(self.pool)))  # the same bytes elsewhere
        elif kind < 0.6:
            export.write(at, memoryview(self.rng.randbytes(CHUNK)))
        elif kind < 0.9:
            export.write(at + 4096 * self.rng.randrange(16), memoryview(self.rng.randbytes(4096)))
        else:
            export.zero(at, CHUNK, True)
        commit(self.site.front.exports)

    def snapshot(self) -> None:
        some = self.rng.sample(self.disks, self.rng.randint(1, len(self.disks)))
        point = str(uuid.UUID(int=self.rng.getrandbits(128)))
        self.orders.do_snapshot_create(point, some, {}, "", None)
        self.points[point] = some

    def settle(self, *, fold: bool = True) -> None:
        self.site.sync()
        while self.site.drain():
            pass
        while fold and self.site.fold():
            pass
        self.site.settle()

    def swept(self) -> int:
        assert self.site.store is not None
        freed = self.site.store.sweeper.sweep().freed_bytes
        self.site.settle()
        assert self.site.store.extents.index.freed() == []
        return freed


@pytest.mark.parametrize("turn", range(12))
def test_it_foretells_to_the_byte_what_a_deletion_frees(turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = Random(seed)
    monkeypatch.setattr(sweep, "PART_EXTENTS", rng.choice([3, 10, 1 << 20]))
    shop = Shop(rng)
    for _ in range(rng.randint(10, 40)):
        shop.step()
    shop.snapshot()
    shop.settle()
    shop.swept()
    accounts = shop.accounts()
    scan = accounts.scan()
    assert set(scan.numbers) == set(shop.points)
    while shop.points:
        going = rng.sample(list(shop.points), rng.randint(1, len(shop.points)))
        foretold = accounts.what_if(going)
        assert foretold.exact
        for point in going:
            shop.orders.do_snapshot_delete(point, None)
            del shop.points[point]
        shop.settle()
        assert shop.swept() == foretold.freed_bytes
        accounts.scan()
    contents = {disk: shop.site.content(disk) for disk in shop.disks}
    shop.site.kill_front()
    shop.site.start_front()
    shop.site.connect()
    assert {disk: shop.site.content(disk) for disk in shop.disks} == contents


def test_what_snapshots_share_counts_only_when_all_of_them_go() -> None:
    shop = Shop(Random(1))
    shop.disk(None)
    (disk,) = shop.disks
    assert shop.site.front is not None
    export = shop.site.front.exports.lookup(disk)
    export.write(0, memoryview(shop.pool[0]))
    commit(shop.site.front.exports)
    shop.snapshot()
    shop.snapshot()
    export.write(0, memoryview(shop.pool[1]))
    commit(shop.site.front.exports)
    shop.snapshot()
    shop.settle()
    first, second, third = shop.points
    accounts = shop.accounts()
    accounts.scan()
    each = accounts.reclaimable([first, second, third, "unknown"])
    assert each == {first: 0, second: 0, third: 0, "unknown": None}
    assert (accounts.what_if([first, second]).freed_bytes or 0) > CHUNK
    assert accounts.what_if([first, third]).freed_bytes == 0


def test_before_a_scan_it_estimates_from_the_versions_around() -> None:
    shop = Shop(Random(2))
    shop.disk(None)
    (disk,) = shop.disks
    assert shop.site.front is not None
    export = shop.site.front.exports.lookup(disk)
    for piece in shop.pool[:4]:
        export.write(0, memoryview(piece))
        commit(shop.site.front.exports)
        shop.snapshot()
    shop.settle(fold=False)
    accounts = shop.accounts()
    points = list(shop.points)
    assert accounts.what_if(points[:1]).freed_bytes is None, "not folded: nobody knows"
    shop.settle()
    for going in (points[:1], points[1:3], points[:3]):
        guess = accounts.what_if(going)
        assert not guess.exact
        assert guess.scanned_at is None
        assert len(going) * CHUNK <= (guess.freed_bytes or 0) < len(going) * (CHUNK + 4096)
    accounts.scan()
    assert accounts.what_if(points[:1]).exact
    shop.snapshot()
    shop.settle()
    assert accounts.what_if(points[:1]).exact, "it was there when the scan looked"
    assert not accounts.what_if(list(shop.points)).exact
