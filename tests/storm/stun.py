# SPDX-License-Identifier: Apache-2.0
"""`make stun SNAPSHOTS=100`: do snapshots of a large group hold up guest writes?

Four clients (processes of their own) write to 32 disks at a fixed rate all the time. Phases with a snapshot per second
take turns with quiet ones. Bar: within 1 s of each snapshot no write is slower than max(5 ms, twice the quiet p99.9).
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from stargate.nbd.client import NbdClient
from stargate.units import GiB, MiB
from tests.storm.kills import percentile
from tests.storm.standstill import Span, Watch, overlap
from tests.support.engine_site import EngineSite
from tests.support.oracle import BLOCK, stamp

DISKS, CLIENTS = 32, 4
DISK_BYTES = 1 * GiB
AREA_BLOCKS = 64 * MiB // BLOCK
NEAR_SECONDS = 1.0
PAUSE_SECONDS = 1.1
FLOOR_MS = 5.0
FACTOR = 2.0


@dataclass(slots=True)
class Measured:
    """Seconds. `near`: the slowest write within 1 s of each snapshot; `orders`: how long each snapshot's order took.

    `quiet` has every write of the quiet phases, `quiet_windows` the slowest of each quiet second. `stills`: when the
    machine itself stood still, None when nobody could look; `near_awake`: as `near` without that time. Shown only: the
    bar judges `near`.
    """

    near: list[float] = field(default_factory=list)
    orders: list[float] = field(default_factory=list)
    quiet: list[float] = field(default_factory=list)
    quiet_windows: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stills: list[Span] | None = None
    near_awake: list[float] = field(default_factory=list)

    @property
    def bar_ms(self) -> float:
        return max(FLOOR_MS, FACTOR * 1000 * percentile(self.quiet, 99.9))

    @property
    def above(self) -> int:
        return sum(seconds * 1000 > self.bar_ms for seconds in self.near)


def client(socket_path: str, names: Sequence[str], seed: int, rate: float, line: Connection) -> None:
    """Body of a client's process: writes until told to end, then sends begin and end of every write."""
    rng = random.Random(seed)
    times = array("d")
    clients = [NbdClient.unix(socket_path, name) for name in names]
    data = stamp(seed & 0xFFFF, 1, 0, 0)
    gc.disable()
    line.send("ready")
    due = time.monotonic()
    while not line.poll():
        due += 1 / rate
        delay = due - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        else:
            due = time.monotonic()  # a late client does not catch up in a burst
        target = clients[rng.randrange(len(clients))]
        block = rng.randrange(AREA_BLOCKS)
        began = time.monotonic()
        target.write(block * BLOCK, data)
        times.append(began)
        times.append(time.monotonic())
    line.send_bytes(times.tobytes())
    for one in clients:
        one.abandon()


class Clients:
    """The load. `stop` gives (begin, end) of every write, in the order of their begins."""

    def __init__(self, site: EngineSite, disks: Sequence[str], seed: int, rate: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._lines: list[Connection] = []
        self._processes = []
        for number in range(CLIENTS):
            here, there = context.Pipe()
            args = (site.engine.nbd_socket, disks[number::CLIENTS], seed + number, rate, there)
            process = context.Process(target=client, args=args, daemon=True)
            process.start()
            there.close()
            self._lines.append(here)
            self._processes.append(process)
        for line in self._lines:
            line.recv()

    def stop(self) -> list[tuple[float, float]]:
        for line in self._lines:
            line.send("end")
        writes: list[tuple[float, float]] = []
        for line in self._lines:
            times = array("d", line.recv_bytes())
            writes += zip(times[::2], times[1::2], strict=True)
        for process in self._processes:
            process.join(30)
        return sorted(writes)


@contextmanager
def running(folder: Path, log_cap_mib: int) -> Iterator[EngineSite]:
    site = EngineSite(folder, log_cap_mib=log_cap_mib, segment_mib=min(64, log_cap_mib // 4))
    try:
        yield site.start()
    finally:
        site.stop()


def measure(
    folder: Path, *, snapshots: int, rounds: int, rate: float, seed: int, log_cap_mib: int = 4096,
    say: Callable[[str], None] = print,
) -> Measured:  # fmt: skip
    """`rounds` times: a quiet phase, then its share of the snapshots."""
    found = Measured()
    with running(folder, log_cap_mib) as site:
        disks = [site.disk(DISK_BYTES) for _ in range(DISKS)]
        load = Clients(site, disks, seed, rate)
        watch = Watch()
        marks: list[tuple[float, float]] = []
        quiet: list[tuple[float, float]] = []
        time.sleep(1)
        for number in range(rounds):
            share = (number + 1) * snapshots // rounds - number * snapshots // rounds
            began = time.monotonic()
            time.sleep(max(1, share) * PAUSE_SECONDS)
            quiet.append((began, time.monotonic()))
            taken = ""
            for _ in range(share):
                ordered = time.monotonic()
                taken = site.snapshot(*disks)
                marks.append((ordered, time.monotonic()))
                time.sleep(PAUSE_SECONDS)
            if taken and number + 1 < rounds:  # the next quiet phase shall be one
                site.engine.wait_rooted(taken, 300)
                time.sleep(1)
        writes = load.stop()
        found.stills = watch.stop()
        say(f"  {len(writes)} writes, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    judge(found, writes, marks, quiet)
    return found


def judge(
    found: Measured, writes: list[tuple[float, float]], marks: list[tuple[float, float]],
    quiet: list[tuple[float, float]],
) -> None:  # fmt: skip
    """Sort the writes into those near a snapshot and those of quiet phases."""
    for ordered, returned in marks:
        near = [(begin, end) for begin, end in writes if end >= ordered and begin <= ordered + NEAR_SECONDS]
        if not near:
            found.failures.append("no guest write near a snapshot: the load does not run")
            return
        found.near.append(max(end - begin for begin, end in near))
        stills = found.stills or []
        found.near_awake.append(max(end - begin - overlap(stills, begin, end) for begin, end in near))
        found.orders.append(returned - ordered)
    for start, end in quiet:
        inside = [(b, e - b) for b, e in writes if start <= b < end]
        found.quiet += [seconds for _, seconds in inside]
        windows: dict[int, float] = {}
        for begin, seconds in inside:
            window = int((begin - start) / NEAR_SECONDS)
            windows[window] = max(seconds, windows.get(window, 0.0))
        found.quiet_windows += windows.values()


def finish(found: Measured, say: Callable[[str], None] = print) -> int:
    """Print the figures; the exit code."""

    def ms(values: list[float], percent: float) -> str:
        return f"{1000 * percentile(values, percent):.2f}"

    say(f"order of a snapshot: p50 {ms(found.orders, 50)} ms, max {ms(found.orders, 100)} ms")
    say(
        f"quiet: {len(found.quiet)} writes, p50 {ms(found.quiet, 50)} p99 {ms(found.quiet, 99)} "
        f"p99.9 {ms(found.quiet, 99.9)} max {ms(found.quiet, 100)} ms; slowest of each second: "
        f"p50 {ms(found.quiet_windows, 50)} p90 {ms(found.quiet_windows, 90)} ms"
    )
    say(
        f"slowest write within 1 s of each snapshot: p50 {ms(found.near, 50)} p90 {ms(found.near, 90)} "
        f"max {ms(found.near, 100)} ms"
    )
    if found.stills is None:
        say("whether the machine itself stood still was not looked at: that takes root")
    elif found.near_awake:
        above = sum(seconds * 1000 > found.bar_ms for seconds in found.near_awake)
        longest = ms([end - begin for begin, end in found.stills] or [0.0], 100)
        say(
            f"all cores stood still {len(found.stills)} times, {longest} ms at most; without that time: "
            f"max {ms(found.near_awake, 100)} ms, {above} above the bar (not judged)"
        )
    for failure in found.failures:
        say(f"FAILED {failure}")
    failed = bool(found.failures) or found.above > 0 or not found.near or not found.quiet
    say(
        f"stun: {len(found.near)} snapshots of {DISKS} disks, slowest write near one {ms(found.near, 100)} ms, "
        f"bar {found.bar_ms:.2f} ms, {found.above} above it"
    )
    return int(failed)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="stun", description=__doc__)
    parser.add_argument("--snapshots", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5, help="quiet phases and phases with snapshots take turns")
    parser.add_argument("--rate", type=float, default=500.0, help="writes per second of each of the four clients")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the engine's processes, too
    print(f"stun: seed {args.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="stu-", dir="/tmp"))
    try:
        return finish(measure(folder, snapshots=args.snapshots, rounds=args.rounds, rate=args.rate, seed=args.seed))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
