# SPDX-License-Identifier: Apache-2.0
"""kill -9 of either process, or both, at any moment, with writers, snapshots, clones, restores, deletions and sweeps.

`STARGATE_KILLS=300` makes it a long storm.
"""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import suppress

from stargate.errors import StargateError
from stargate.nbd.link import NbdDisconnected, NbdRefused, NbdRequestFailed
from tests.engine.test_points import BLOCKS, reader_of
from tests.support.engine_site import EngineSite
from tests.support.oracle import BLOCK, Journal, StampedWriter, judge

KILLS = int(os.environ.get("STARGATE_KILLS", "6"))
DISKS, WRITERS = 3, 2


class Storm:
    def __init__(self, site: EngineSite, seed: int) -> None:
        self.site = site
        self.seed = seed
        self.rng = random.Random(seed)
        self.disks = [site.disk(BLOCKS * BLOCK) for _ in range(DISKS)]
        self.journals = [Journal(n) for n in range(WRITERS)]
        self.writers: list[StampedWriter] = []
        self.points: dict[str, tuple[float, float]] = {}  # snapshot -> when it was ordered and when it was there
        self.clones: dict[str, bytes] = {}

    def start_writers(self) -> None:
        self.writers = []
        for journal in self.journals:
            number = journal.writes[-1].number + 1 if journal.writes else 1
            writer = StampedWriter(
                journal.writer, WRITERS, lambda d: self.site.open(self.disks[d]), DISKS, BLOCKS,
                seed=self.seed, flush_every=9, start_number=number,
            )  # fmt: skip
            writer.start()
            self.writers.append(writer)

    def stop_writers(self) -> None:
        for writer, journal in zip(self.writers, self.journals, strict=True):
            writer.stop()
            journal.writes += writer.journal.writes

    def orders(self, count: int) -> None:
        for _ in range(count):
            self.rng.choice([self.snapshot, self.snapshot, self.delete, self.clone, self.restore, self.sweep])()

    def snapshot(self) -> None:
        ordered_at = time.monotonic()
        point = self.site.snapshot(*self.disks)
        self.points[point] = ordered_at, time.monotonic()

    def delete(self) -> None:
        if len(self.points) > 2:
            point = self.rng.choice(sorted(self.points))
            del self.points[point]
            self.site.engine.snapshot_delete(point)

    def clone(self) -> None:
        if self.points:
            point, disk = self.rng.choice(sorted(self.points)), self.rng.choice(self.disks)
            clone = self.site.clone(point, disk)
            self.clones[clone] = self.site.content(f"snapshot:{point}:{disk}")

    def restore(self) -> None:
        """Of an older clone, which nobody writes to."""
        if self.points and self.clones:
            point, disk = self.rng.choice(sorted(self.points)), self.rng.choice(self.disks)
            clone = self.rng.choice(sorted(self.clones))
            expected = self.site.content(f"snapshot:{point}:{disk}")
            del self.clones[clone]  # until the order returned it may be either
            self.site.engine.restore(point, {disk: clone})
            self.clones[clone] = expected

    def sweep(self) -> None:
        with suppress(StargateError):
            self.site.engine.sweep()

    def check(self) -> None:
        now = time.monotonic()
        read = reader_of(lambda d: self.site.open(self.disks[d]), DISKS)
        judge(read, self.journals, DISKS, BLOCKS, ordered_at=now, returned_at=now)
        for point, (ordered_at, returned_at) in self.points.items():
            read = reader_of(lambda d, p=point: self.site.open_snapshot(p, self.disks[d]), DISKS)  # type: ignore[misc]
            judge(read, self.journals, DISKS, BLOCKS, ordered_at=ordered_at, returned_at=returned_at)
        for clone, expected in self.clones.items():
            assert self.site.content(clone) == expected, f"clone {clone}"
        while len(self.clones) > 4:
            clone = next(iter(self.clones))
            del self.clones[clone]
            self.site.engine.vdisk_delete(clone)


def test_a_storm_of_kills_loses_nothing(site: EngineSite) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    storm = Storm(site, seed)
    for _ in range(KILLS):
        storm.start_writers()
        storm.orders(storm.rng.randint(1, 4))
        killer = threading.Timer(storm.rng.random() * 0.5, site.kill, storm.rng.choice([["front"], ["store"], []]))
        killer.start()
        with suppress(StargateError, OSError, NbdDisconnected, NbdRefused, NbdRequestFailed):
            while killer.is_alive():
                storm.orders(1)
        killer.join()
        if site.store is None:
            site.start_store()
        if site.front is None:
            site.start_front()
        site.wait_ready()
        storm.stop_writers()
        storm.check()
    assert sum(len(j.writes) for j in storm.journals) > KILLS * 10
