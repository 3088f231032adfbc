# SPDX-License-Identifier: Apache-2.0
"""`make bench`: the rows of issue 3, peers and Stargate interleaved in one run. See docs/bench.md.

    python -m bench.run [--rounds 3] [--seconds 3] [--only TEXT ...] [--quick] [--out FOLDER]

Writes bench/results.md and bench/results.json. Needs fio, qemu-nbd and nbdkit; works in the folder bench-work,
which it removes again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench import jobs, points, replication, report
from bench.report import Sample
from bench.servers import BenchError, PeerServer, RawFile, Server, StargateServer, space_needed
from stargate.units import GiB, MiB

HERE = Path(__file__).parent
REGION = 2 * GiB
LOG_CAP = 4 * GiB
SUSTAINED_SECONDS = 60
SUSTAINED_LOGS = 4
ROUNDS_CLOSE = 10
"""Rounds of a row whose ratio is near its bar."""

POINT_ROWS = (report.SNAPSHOT_ROW, report.SNAPSHOT_BYTES_ROW, report.CLONE_ROW, report.DIFF_ROW)


def small_jobs(seconds: int) -> list[jobs.Job]:
    """In the order of a round: what fills the log comes before what wants it empty."""
    return [
        jobs.Job("4K random write QD32, burst", "randwrite", "4k", 32, REGION, seconds),
        jobs.Job("4K random write QD1", "randwrite", "4k", 1, REGION, seconds),
        jobs.Job("4K write + flush each, QD1", "randwrite", "4k", 1, REGION, seconds, fsync=True),
        jobs.Job("1M sequential write, burst", "write", "1m", 8, REGION),
        jobs.Job("1M sequential read", "read", "1m", 8, REGION, seconds),
        jobs.Job("4K random read QD32, drained warm", "randread", "4k", 32, REGION, seconds),
        jobs.Job("4K random read QD32, recent", "randread", "4k", 32, REGION // 4, seconds, trickle=True),
    ]


LONG_JOBS = (
    ("4K random write QD32, sustained", "randwrite", "4k", 32),
    ("1M sequential write, sustained", "write", "1m", 8),
)


class Bench:
    """One run: servers up, rounds, samples."""

    def __init__(self, args: argparse.Namespace, work: Path, stack: ExitStack) -> None:
        self._args = args
        self._work = work
        self._stack = stack
        self._started = time.strftime("%Y-%m-%d %H:%M")
        self._load = os.getloadavg()[0]
        self.samples: list[Sample] = []
        self.disk_bytes = 4 * GiB if args.quick else 16 * GiB
        self._servers: list[Server] = []

    def _say(self, text: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)

    def wanted(self, *rows: str) -> bool:
        texts = [text.lower() for text in self._args.only]
        return not texts or any(text in row.lower() for row in rows for text in texts)

    def report(self) -> list[dict[str, Any]]:
        """Write what there is so far; the rows."""
        about = (
            f"{self._started}, {self._args.rounds} rounds of {self._args.seconds} s (more where a bar is close), "
            f"disk of {self.disk_bytes // GiB} GiB, load average before the run {self._load:.1f}"
            f"{', quick run' if self._args.quick else ''}. How it is measured: docs/bench.md."
        )
        return report.write(HERE if not self._args.out else Path(self._args.out), self.samples, about)

    def add(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.report()

    def everything(self) -> None:
        chosen = [job for job in small_jobs(self._args.seconds) if self.wanted(job.name)]
        long_jobs = [job for job in LONG_JOBS if self.wanted(job[0])]
        if chosen or long_jobs:
            self._start_peers()
        if chosen or long_jobs or self.wanted(*POINT_ROWS):
            self._start_ours()
        if chosen:
            self._rounds(chosen)
        if self.wanted(report.SNAPSHOT_ROW, report.SNAPSHOT_BYTES_ROW, report.CLONE_ROW):
            points.snapshots(self.ours, self.add)
        if self.wanted(report.DIFF_ROW):
            points.differences(self.ours, self.add)
        self._long(long_jobs)
        if self._servers and self.wanted(report.STALL_ROW):
            points.stall(self.ours, self.add)
        self._stack.close()  # what follows has servers of its own
        if self.wanted(report.NEIGHBOUR_ROW):
            self._say("a guest beside drain and replication")
            points.neighbour(self._work / "neighbour", self.add, self._args.rounds)
            shutil.rmtree(self._work / "neighbour")
        if self.wanted(*(bar.row for bar in report.BARS if bar.row.startswith("replication"))):
            job = replication.Replication(self._work, self.add, self._say)
            for _ in range(1 if self._args.quick else self._args.rounds):
                job.round()

    def _start_peers(self) -> None:
        self._say(f"preparing {self.disk_bytes // GiB} GiB for the peers")
        raw = RawFile(self._work / "disk.raw", self.disk_bytes)
        for name in ("qemu-nbd", "nbdkit"):
            self._servers.append(PeerServer(name, raw))
            self._stack.callback(self._servers[-1].stop)

    def _start_ours(self) -> None:
        self.ours = StargateServer(self._work / "site", self.disk_bytes)
        self._stack.callback(self.ours.stop)
        self._servers.append(self.ours)

    def _prepare(self, region: int) -> None:
        """Our disk written once, as the peers' file was."""
        self._say(f"preparing {region // GiB} GiB of our disk")
        jobs.run(self.ours, jobs.Job("prepare", "write", "1m", 8, region))
        self.ours.settle()

    def _rounds(self, chosen: list[jobs.Job]) -> None:
        self._prepare(REGION)
        for number in range(max(self._args.rounds, 0 if self._args.quick else ROUNDS_CLOSE)):
            if number >= self._args.rounds:
                close = report.close(self.samples)
                chosen = [job for job in chosen if job.name in close]
            for job in chosen:
                for server in self._servers if number % 2 == 0 else self._servers[::-1]:
                    self._measure(job, server)
                self.report()

    def _measure(self, job: jobs.Job, server: Server) -> None:
        if job.trickle:  # what is read was just written
            jobs.run(server, replace(job, rw="write", bs="1m", depth=8, seconds=0, trickle=False))
        elif "read" in job.rw:  # idle pages may have been taken from the page cache since: warm means warm
            jobs.run(server, replace(job, rw="read", bs="1m", depth=8, seconds=0))
        result = jobs.run(server, job)
        note = asdict(result)
        if job.trickle and server is self.ours:
            note["undrained_mib"] = self.ours.undrained_bytes() / MiB
        mib = job.bs == "1m"
        value, unit = (result.mib_per_second, "MiB/s") if mib else (result.per_second, "IOPS")
        self.samples.append(Sample(job.name, server.name, value, unit, note))
        self._say(
            f"{job.name:36} {server.name:9} {value:12,.0f} {unit}  p99 {result.p99_us:,.0f} us  "
            f"{result.cpu_us_per_request:.1f} us CPU/request  load {result.load:.1f}"
        )
        server.settle()

    def _long(self, chosen: list[tuple[str, str, str, int]]) -> None:
        """Over the whole disk, for at least `SUSTAINED_SECONDS` and, by us, `SUSTAINED_LOGS` times the log's cap."""
        if not chosen:
            return
        self._prepare(self.disk_bytes)
        spent = points.Spent(self.ours)
        for name, rw, bs, depth in chosen:
            for server in self._servers:
                written = self._sustain(jobs.Job(name, rw, bs, depth, self.disk_bytes, self._long_seconds), server)
            self.ours.settle()
            spent.report(self.add, written, self.disk_bytes, name)
            spent = points.Spent(self.ours)
        points.Spent.index(self.ours, self.add)

    @property
    def _long_seconds(self) -> int:
        return 20 if self._args.quick else SUSTAINED_SECONDS

    def _sustain(self, job: jobs.Job, server: Server) -> int:
        """One sample; bytes written."""
        name = job.name + (" (quick: 20 s, 4 GiB)" if self._args.quick else "")
        bytes_, amount, seconds = 0, 0.0, 0.0
        while True:
            result = jobs.run(server, job)
            rate = result.mib_per_second if job.bs == "1m" else result.per_second
            bytes_, amount, seconds = bytes_ + result.bytes, amount + rate * result.seconds, seconds + result.seconds
            enough = self._args.quick or server is not self.ours or bytes_ >= SUSTAINED_LOGS * LOG_CAP
            if enough or seconds > 10 * SUSTAINED_SECONDS:
                break
        note = {**asdict(result), "written_gib": bytes_ / GiB, "seconds": seconds}
        unit = "MiB/s" if job.bs == "1m" else "IOPS"
        self.add(Sample(name, server.name, amount / seconds, unit, note))
        self._say(f"{name} {server.name}: {amount / seconds:,.0f} {unit}, {seconds:.0f} s, {bytes_ / GiB:.1f} GiB")
        if server is not self.ours:
            server.settle()
        return bytes_


@contextmanager
def work_folder(needed_bytes: int) -> Iterator[Path]:
    """bench-work, empty, removed at the end. Raises BenchError when it is in use or the disk is too full."""
    work = HERE.parent / "bench-work"
    try:
        work.mkdir()
    except FileExistsError:
        raise BenchError(
            f"{work} exists: another run is under way, or one was killed; then remove the folder"
        ) from None
    try:
        free = shutil.disk_usage(work).free
        if free < needed_bytes:
            raise BenchError(
                f"needs {needed_bytes / GiB:.0f} GiB of free space, there are {free / GiB:.0f}; "
                "free some, or use --quick or --only"
            )
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the short rows")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of each short row")
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="rows whose name holds one of these")
    parser.add_argument("--out", metavar="FOLDER", help="write the results there instead of bench/")
    parser.add_argument("--quick", action="store_true", help="a 4-GiB disk, sustained for 20 s only")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    missing = [tool for tool in ("fio", "qemu-nbd", "nbdkit") if shutil.which(tool) is None]
    if missing:
        print(f"bench: not installed: {', '.join(missing)}; apt-get install fio qemu-utils nbdkit", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a kill, too, stops the servers and cleans up
    try:
        long_rows = not args.quick and (not args.only or any(t.lower() in "sustained" for t in args.only))
        space = space_needed(4 * GiB if args.quick else 16 * GiB, sustained=long_rows)
        with work_folder(space) as work, ExitStack() as stack:
            bench = Bench(args, work, stack)
            bench.everything()
            found = bench.report()
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    missed = [row for row in found if row["holds"] is False]
    print(f"{len(found)} rows, {len(missed)} below their bar; see bench/results.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
