# SPDX-License-Identifier: Apache-2.0
"""The storm: rounds of load, orders and one kill -9 each, with a check of everything after every round."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from stargate.front.service import RESTART_EXIT_CODE
from stargate.nbd.link import NbdDisconnected, NbdRefused, NbdRequestFailed
from tests.storm.bulk import Bulk
from tests.storm.group import BLOCKS, DISKS, ORDER_FAILURES, Group
from tests.storm.pair import Pair
from tests.support.engine_site import EngineSite
from tests.support.loopback import loopback
from tests.support.oracle import BLOCK

SPAN_SECONDS = {
    "snapshot": 0.02,
    "clone": 0.02,
    "restore": 0.03,
    "delete": 0.03,
    "fold": 0.15,
    "sweep": 0.1,
    "sync": 0.25,
}
"""Kinds of orders, and within how long after one was begun the kill comes: about as long as they take."""

BULK_BLOCKS = 16384
SERVED_SECONDS = 60.0
VICTIMS = (("front",), ("store",), ("front", "store"))
GONE = (*ORDER_FAILURES, NbdDisconnected, NbdRefused, NbdRequestFailed)


@dataclass(slots=True)
class Report:
    """What a storm did and found."""

    kills: int = 0
    full: int = 0
    during: Counter[str] = field(default_factory=Counter)
    victims: Counter[str] = field(default_factory=Counter)
    served_seconds: list[float] = field(default_factory=list)  # after each kill that took a front
    writes: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        self.kills += other.kills
        self.full += other.full
        self.during += other.during
        self.victims += other.victims
        self.served_seconds += other.served_seconds
        self.writes += other.writes
        self.violations += other.violations


def percentile(values: list[float], percent: float) -> float:
    """Nearest rank; 0 without values."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(percent * 10) // 1000) - 1)] if ordered else 0.0


def revive(site: EngineSite, read: Callable[[EngineSite], object]) -> float:
    """Start what is dead and wait for the first answered read, as a supervisor and a guest would. Seconds."""
    began = time.monotonic()
    while True:
        if site.store is None:
            site.start_store()
        if site.front is None or site.front.poll() == RESTART_EXIT_CODE:
            site.start_front()
        try:
            read(site)
            return time.monotonic() - began
        except GONE:
            assert site.front is not None
            code = site.front.poll()
            assert code in (None, RESTART_EXIT_CODE), f"the front ended with {code}:\n{site.logs()}"
            assert time.monotonic() - began < SERVED_SECONDS, f"not served after {SERVED_SECONDS} s:\n{site.logs()}"
        time.sleep(0.005)


def first_block(export: str) -> Callable[[EngineSite], object]:
    def read(site: EngineSite) -> bytes:
        with site.open(export) as client:
            return client.read(0, BLOCK)

    return read


class Storm:
    """`kills` rounds; `full` of them begin with the log filled to its cap while the store is away."""

    def __init__(self, folder: Path, seed: int, kills: int, full: int, addresses: tuple[str, str]) -> None:
        self.seed = seed
        self.report = Report()
        self.pair = Pair(folder, addresses, log_cap_mib=64, segment_mib=4)
        self.group = Group(self.pair.here, seed, self.pair)
        self.bulk = Bulk(self.pair.here, BULK_BLOCKS, seed)
        there = self.pair.there
        self._far = there.disk(BLOCKS * BLOCK)
        rng = random.Random(f"plan-{seed}")
        kinds = [kind for _ in range(kills) for kind in SPAN_SECONDS]
        self.plan = ["full"] * full + kinds[: kills - full]
        rng.shuffle(self.plan)

    def run(self, say: Callable[[str], None] = print) -> Report:
        """Ends at the first violation: what comes after one proves nothing."""
        for number, kind in enumerate(self.plan, 1):
            try:
                self._round(number, kind)
            except AssertionError as exc:
                self.report.violations.append(f"kill {number} ({kind}): {exc}\n{self._logs()}")
                break
            if number % 25 == 0:
                say(f"  {number} kills, {self.report.writes} acknowledged writes")
        return self.report

    def _round(self, number: int, kind: str) -> None:
        rng = self.group.rng = random.Random(f"{self.seed}-{number}")
        self.group.load.start(self.pair.here.open)
        if kind == "full":
            self._kill_with_full_log(rng)
        else:
            self._kill_during(kind, rng)
        self.report.kills += 1
        self.report.during[kind] += 1
        self._revive_all()
        self.group.load.stop()
        self.bulk.end()
        self.report.writes = self.group.load.acknowledged + self.bulk.written
        for site in self.pair.sites:
            self._ready(site)
        self.group.check()
        if kind == "full":
            self.bulk.check()

    def _kill_with_full_log(self, rng: random.Random) -> None:
        here = self.pair.here
        here.kill("store")
        self.bulk.fill()
        self.report.full += 1
        self.report.victims["front, log full"] += 1
        here.kill()

    def _kill_during(self, kind: str, rng: random.Random) -> None:
        site = rng.choice(self.pair.sites) if kind == "sync" else self.pair.here
        victims = rng.choice(VICTIMS)
        self.report.victims["+".join(victims) + (" of the receiver" if site is self.pair.there else "")] += 1
        if kind == "sync":
            self.group.order_snapshot()
        begun = threading.Event()
        killer = threading.Thread(target=self._kill_after, args=(begun, rng.random(), kind, site, victims))
        killer.start()
        begun.set()
        with suppress(*GONE):
            while killer.is_alive():
                self.group.order(kind)
        killer.join()

    @staticmethod
    def _kill_after(
        begun: threading.Event, fraction: float, kind: str, site: EngineSite, victims: tuple[str, ...]
    ) -> None:
        begun.wait()
        time.sleep(fraction * SPAN_SECONDS[kind])
        site.kill(*victims)

    def _revive_all(self) -> None:
        for site, export in ((self.pair.here, self.group.disks[0]), (self.pair.there, self._far)):
            dead = site.front is None
            seconds = revive(site, first_block(export))
            if dead:
                self.report.served_seconds.append(seconds)

    def _ready(self, site: EngineSite) -> None:
        """Both halves work together again, also when the front had to start anew to follow the store."""
        deadline = time.monotonic() + SERVED_SECONDS
        while True:
            revive(site, lambda s: s.engine.front.call("status"))
            with suppress(*GONE):
                if site.engine.status()["store_connected"]:
                    return
            assert time.monotonic() < deadline, f"front and store do not find each other:\n{site.logs()}"
            time.sleep(0.01)

    def _logs(self) -> str:
        return "\n".join(f"--- {site.folder.name}\n{site.logs()}" for site in self.pair.sites)

    def close(self) -> None:
        self.pair.stop()


def storm(folder: Path, *, seed: int, kills: int, full: int, say: Callable[[str], None] = print) -> Report:
    """Run one storm in `folder` (short: unix sockets lie in it)."""
    found = Storm(folder, seed, kills, full, (loopback(1), loopback(2)))
    try:
        report = found.run(say)
        report.violations += [] if DISKS * report.writes else ["nothing was written"]
        return report
    finally:
        found.close()
