# SPDX-License-Identifier: Apache-2.0
"""ENOSPC at any call, and deletions ahead of the drain: the real engine over a disk in memory."""

from __future__ import annotations

import errno
import random
import uuid
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from stargate.catalog.log import CatalogLog
from stargate.catalog.state import BatchRef
from stargate.errors import LogFrozen, NoSpace
from stargate.extents.index import Change, LmdbIndex, Location
from stargate.fs.memdisk import MemDisk, Op
from stargate.hot.regions import HotWriter, read_batch_table
from stargate.space import Gauge, Level, level_of
from stargate.store.space import RESERVE_PATH, Space
from stargate.units import BLOCK_BYTES, GiB, KiB, MiB
from tests.curator.test_accounts import Shop
from tests.curator.test_sweep import Time


class Picky(MemDisk):
    """Fails the next call of one name with ENOSPC, half-done if it is a write."""

    fails = ""

    def _call(self, op: Op) -> bool:
        if op.name == self.fails:
            self.fails = ""
            raise OSError(errno.ENOSPC, "no space", op.path)
        return super()._call(op)


def test_a_catalog_without_space_changed_nothing_and_goes_on() -> None:
    disk = Picky()
    log, _, _ = CatalogLog.open(disk, "catalog")
    log.append([{"n": 1}])
    disk.fails = "pwritev"
    with pytest.raises(NoSpace):
        log.append([{"n": 2, "long": "x" * 1000}])
    log.append([{"n": 3}])
    disk.fails = "pwritev"
    with pytest.raises(NoSpace):
        log.checkpoint({"n": 3})
    log.append([{"n": 4}])
    log.checkpoint({"n": 4})
    log.append([{"n": 5}])
    disk.fails = "fdatasync"
    with pytest.raises(LogFrozen):
        log.append([{"n": 6}])
    with pytest.raises(LogFrozen):
        log.append([{"n": 7}])
    log.close()
    _, state, ops = CatalogLog.open(disk, "catalog")
    assert state == {"n": 4}
    assert [op["n"] for op in ops][:1] == [5]
    assert not [name for name in disk.list("catalog") if name.endswith(".tmp")]


@pytest.mark.parametrize("room", [300 * KiB, 170 * KiB, 90 * KiB, 0])
def test_a_window_that_found_no_space_leaves_nothing_in_the_hot_tier(room: int) -> None:
    disk = MemDisk()
    writer = HotWriter.open(disk, "hot", live=[], region_bytes=256 * KiB)
    rng = Random(1)

    def blocks(count: int) -> list[tuple[int, int, int, bytes]]:
        from crc32c import crc32c

        data = [rng.randbytes(BLOCK_BYTES) for _ in range(count)]
        return [(n, n, crc32c(d), d) for n, d in enumerate(data)]

    epoch = str(uuid.UUID(int=1))
    writer.begin()
    kept: list[BatchRef] = writer.append(epoch, 0, 1, [], [], blocks(8))
    writer.sync()
    used = disk._used()
    disk.capacity_bytes = used + room
    for _ in range(20):
        writer.begin()
        with pytest.raises(NoSpace):
            writer.append(epoch, 1, 2, [], [], blocks(200))
        writer.rollback()
        assert not set(writer._free) & set(writer._ends)
        assert len(writer._free) == len(set(writer._free))
    disk.capacity_bytes = None
    writer.begin()
    refs = writer.append(epoch, 1, 2, [], [], blocks(20))
    writer.sync()
    assert (refs[0].region, refs[0].offset) == (kept[0].region, kept[0].offset + kept[0].length)
    ends = sorted((ref.region, ref.offset, ref.offset + ref.length) for ref in (*kept, *refs))
    assert all(a[0] != b[0] or a[2] <= b[1] for a, b in pairwise(ends)), "no two share a place"
    assert [len(read_batch_table(disk, "hot", ref).blocks) for ref in kept] == [8]


@pytest.mark.parametrize("turn", range(10))
def test_snapshots_deleted_ahead_of_the_drain_take_nothing_with_them(turn: int) -> None:
    """Clones, restores and seals that are still in the log; then a restart of either half, or a power cut."""
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = Random(seed)
    shop = Shop(rng)
    for _ in range(rng.randint(8, 20)):
        shop.step()
    shop.settle(fold=rng.random() < 0.7)
    for _ in range(rng.randint(4, 15)):  # this stays in the log
        choice = rng.random()
        if choice < 0.4 and shop.points:
            gone = rng.choice(list(shop.points))
            shop.orders.do_snapshot_delete(gone, None)
            del shop.points[gone]
        elif choice < 0.6 and shop.points and shop.disks:
            point = rng.choice(list(shop.points))
            both = [d for d in shop.points[point] if d in shop.disks]
            if both:
                shop.orders.do_restore(point, {both[0]: rng.choice(shop.disks)}, True, None)
        else:
            shop.step()
    shop.site.sync()
    front, store = shop.site.front, shop.site.store
    assert front is not None
    assert store is not None
    expected = {disk: shop.site.content(disk) for disk in shop.disks}
    points = {(p, d): shop.site.content(f"snapshot:{p}:{d}") for p, disks in shop.points.items() for d in disks}
    for _ in range(3):
        names = front.engine.departures.ready(front.engine.log.durable.position)
        store.worker.delete_early(names)
        assert not set(names) & set(store.hub.state.snapshots)
        shop.site.settle()
        store.sweeper.sweep()
        shop.site.settle()
        shop.site.drain(store.hub.state.covered.position + rng.randrange(1, 400 * KiB))
    what = rng.randrange(3)
    if what == 0:
        shop.site.power_cut()
        shop.site.start()
    elif what == 1:
        shop.site.kill_front()
        shop.site.start_front()
        shop.site.connect()
    shop.settle()
    shop.swept()
    assert {disk: shop.site.content(disk) for disk in shop.disks} == expected
    assert {(p, d): shop.site.content(f"snapshot:{p}:{d}") for p, d in points} == points


def test_what_is_still_named_in_the_log_is_not_deleted_early() -> None:
    shop = Shop(Random(1))
    shop.disk(None)
    shop.write(shop.disks[0])
    shop.snapshot()
    shop.settle()
    (point,) = shop.points
    shop.disk(point)
    shop.orders.do_snapshot_delete(point, None)
    front, store = shop.site.front, shop.site.store
    assert front is not None
    assert store is not None
    assert front.engine.departures.ready(front.engine.log.durable.position) == [], "not durable yet"
    position = shop.site.sync()
    assert front.engine.departures.ready(position) == [], "a clone of it is in the log"
    shop.settle()
    assert point not in store.hub.state.snapshots
    shop.snapshot()
    shop.settle()
    (other,) = set(shop.points) - {point}
    durable = shop.site.sync()
    shop.orders.do_snapshot_delete(other, None)
    assert front.engine.departures.ready(durable) == [], "a power cut may bring it back"
    assert front.engine.departures.ready(shop.site.sync()) == [other]
    shop.settle()
    assert front.engine.departures.ready(shop.site.sync()) == [], "the drain has been there"


def test_levels_follow_share_and_absolute_bounds() -> None:
    for total, free, wanted in (
        (GiB, GiB // 2, Level.GOOD),
        (GiB, GiB // 11, Level.NEARLY_FULL),
        (GiB, GiB // 21, Level.SCARCE),
        (GiB, GiB // 51, Level.FULL),
        (4096 * GiB, 21 * GiB, Level.GOOD),
        (4096 * GiB, 19 * GiB, Level.NEARLY_FULL),
        (4096 * GiB, 7 * GiB, Level.SCARCE),
        (4096 * GiB, GiB - 1, Level.FULL),
    ):
        assert level_of(free, total) is wanted


def test_a_gauge_believes_what_it_is_told_for_some_seconds() -> None:
    time, disk = Time(), MemDisk(capacity_bytes=GiB)
    gauge = Gauge(disk, time)
    assert gauge.level() is Level.GOOD
    gauge.tell_full()
    assert gauge.level() is Level.FULL
    with pytest.raises(NoSpace, match="full"):
        gauge.refuse_from(Level.SCARCE, "no")
    time.advance(4.9)
    assert gauge.level() is Level.FULL
    time.advance(0.2)
    assert gauge.level() is Level.GOOD
    gauge.tell_full()
    gauge.tell_good()
    assert gauge.level() is Level.GOOD


def fill_up(disk: MemDisk, leave_bytes: int) -> None:
    file = disk.open("hog", create=True)
    file.truncate(file.size() + disk.free_bytes() - leave_bytes)


def test_the_reserve_is_given_up_once_and_made_again_when_there_is_room() -> None:
    time, disk = Time(), MemDisk(capacity_bytes=256 * MiB)
    space = Space(disk, time, 8 * MiB)
    assert space.level() is Level.GOOD
    space.tend()
    assert not disk.exists(RESERVE_PATH), "a start has other things to write"
    time.advance(5)
    space.tend()
    assert space.facts()["reserve_bytes"] == 4 * MiB, "one part in 64 of a small file system"
    assert space.level() is Level.GOOD
    space.bulk()
    fill_up(disk, 0)
    time.advance(1)
    with pytest.raises(NoSpace):
        space.bulk()
    assert space.release()
    assert disk.free_bytes() == 4 * MiB
    assert not space.release()
    space.tend()
    assert not disk.exists(RESERVE_PATH), "there is no room for it"
    disk.unlink("hog")
    with pytest.raises(NoSpace):
        space.bulk()
    assert space.level() is Level.FULL, "whatever is free: it has no reserve"
    space.tend()
    space.bulk()
    space.incoming()
    assert Space(disk, time, 8 * MiB).level() is Level.GOOD, "found at the next start"


def test_a_forecast_needs_an_hour_and_a_shrinking_disk() -> None:
    time, disk = Time(), MemDisk(capacity_bytes=100 * MiB)
    space = Space(disk, time, 0)
    space.tend()
    fill_up(disk, 90 * MiB)
    time.advance(3599)
    space.tend()
    assert space.runway_seconds() is None
    time.advance(1)
    assert space.runway_seconds() == pytest.approx(9 * 3600)
    disk.unlink("hog")
    assert space.runway_seconds() is None


def test_an_index_that_fills_its_file_system_says_so_and_goes_on_when_there_is_space(
    small: Callable[..., Path],
) -> None:
    """LMDB calls the write that the last free bytes cut short an I/O error: no reason to end the store."""
    folder = small(4 * MiB)
    index = LmdbIndex(folder / "index")
    filler = folder / "filler"
    filler.write_bytes(bytes(MiB))
    stored: list[bytes] = []

    def fill() -> None:
        while True:
            digests = [random.randbytes(32) for _ in range(1000)]
            index.commit(Change(puts=[(digest, Location(1, 64, 1, 1, 0, 0, 0, 1)) for digest in digests]))
            stored.extend(digests)

    with pytest.raises(NoSpace):
        fill()
    assert index.count() == len(stored)
    filler.unlink()
    index.commit(Change(puts=[(bytes(32), Location(1, 64, 1, 1, 0, 0, 0, 1))]))
    assert index.count() == len(stored) + 1
    assert None not in index.get_many(stored)
    index.close()
