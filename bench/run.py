# SPDX-License-Identifier: Apache-2.0
"""`make bench`: the rows of issue 3, peers and Stargate interleaved in one run. See docs/bench.md.

    python -m bench.run [--rounds 3] [--seconds 3] [--only TEXT ...] [--quick]

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
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench import jobs, report
from bench.report import SNAPSHOT_ROW, Sample
from bench.servers import BenchError, PeerServer, RawFile, Server, StargateServer, space_needed
from stargate.nbd.client import NbdClient
from stargate.units import GiB, MiB

HERE = Path(__file__).parent
REGION = 2 * GiB
LOG_CAP = 4 * GiB
SUSTAINED_SECONDS = 60
SUSTAINED_LOGS = 4
SNAPSHOT_DISKS = 32
SNAPSHOT_REPEATS = 20


def small_jobs(seconds: int) -> list[jobs.Job]:
    """In the order of a round: what fills the log comes before what wants it empty."""
    return [
        jobs.Job("4K random write QD32, burst", "randwrite", "4k", 32, REGION, seconds),
        jobs.Job("4K random write QD1", "randwrite", "4k", 1, REGION, seconds),
        jobs.Job("4K write + flush each, QD1", "randwrite", "4k", 1, REGION, seconds, fsync=True),
        jobs.Job("1M sequential write", "write", "1m", 8, REGION, seconds),
        jobs.Job("1M sequential read", "read", "1m", 8, REGION, seconds),
        jobs.Job("4K random read QD32, drained warm", "randread", "4k", 32, REGION, seconds),
        jobs.Job("4K random read QD32, recent", "randread", "4k", 32, REGION // 4, seconds, trickle=True),
    ]


class Bench:
    """One run: servers up, rounds, samples."""

    def __init__(self, args: argparse.Namespace, work: Path, stack: ExitStack) -> None:
        self._args = args
        self._started = time.strftime("%Y-%m-%d %H:%M")
        self._load = os.getloadavg()[0]
        self.samples: list[Sample] = []
        self.disk_bytes = 4 * GiB if args.quick else 16 * GiB
        self._say(f"preparing {self.disk_bytes // GiB} GiB for the peers")
        raw = RawFile(work / "disk.raw", self.disk_bytes)
        self._servers: list[Server] = []
        for name in ("qemu-nbd", "nbdkit"):
            self._servers.append(PeerServer(name, raw))
            stack.callback(self._servers[-1].stop)
        self.ours = StargateServer(work / "site", self.disk_bytes)
        stack.callback(self.ours.stop)
        self._servers.append(self.ours)

    def _say(self, text: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)

    def wanted(self, row: str) -> bool:
        return not self._args.only or any(text.lower() in row.lower() for text in self._args.only)

    def report(self) -> list[dict[str, Any]]:
        """Write what there is so far; the rows."""
        about = (
            f"{self._started}, {self._args.rounds} rounds of {self._args.seconds} s, disk of "
            f"{self.disk_bytes // GiB} GiB, load average before the run {self._load:.1f}"
            f"{', quick run' if self._args.quick else ''}. How it is measured: docs/bench.md."
        )
        return report.write(HERE, self.samples, about)

    def _prepare(self, region: int) -> None:
        """Our disk written once, as the peers' file was."""
        self._say(f"preparing {region // GiB} GiB of our disk")
        jobs.run(self.ours, jobs.Job("prepare", "write", "1m", 8, region))
        self.ours.settle()

    def rounds(self) -> None:
        chosen = [job for job in small_jobs(self._args.seconds) if self.wanted(job.name)]
        if chosen:
            self._prepare(REGION)
        for number in range(self._args.rounds):
            for job in chosen:
                for server in self._servers if number % 2 == 0 else self._servers[::-1]:
                    self._measure(job, server)
                self.report()

    def _measure(self, job: jobs.Job, server: Server) -> None:
        if job.trickle:  # what is read was just written
            jobs.run(server, replace(job, rw="write", bs="1m", depth=8, seconds=0, trickle=False))
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

    def sustained(self) -> None:
        """Over the whole disk, for at least `SUSTAINED_SECONDS` and, by us, `SUSTAINED_LOGS` times the log's cap."""
        name = "4K random write QD32, sustained" + (" (quick: 20 s, 4 GiB)" if self._args.quick else "")
        if not self.wanted(name):
            return
        self._prepare(self.disk_bytes)
        seconds = 20 if self._args.quick else SUSTAINED_SECONDS
        for server in self._servers:  # ours last: what it has to fold afterwards may take minutes
            job = jobs.Job(name, "randwrite", "4k", 32, self.disk_bytes, seconds)
            written, requests, spent = 0, 0.0, 0.0
            while True:
                result = jobs.run(server, job)
                written, requests, spent = (
                    written + result.bytes,
                    requests + result.per_second * result.seconds,
                    spent + result.seconds,
                )
                enough = self._args.quick or server is not self.ours or written >= SUSTAINED_LOGS * LOG_CAP
                if enough or spent > 10 * SUSTAINED_SECONDS:
                    break
            note = {**asdict(result), "written_gib": written / GiB, "seconds": spent}
            self.samples.append(Sample(name, server.name, requests / spent, "IOPS", note))
            self._say(f"{name} {server.name}: {requests / spent:,.0f} IOPS over {spent:.0f} s, {written / GiB:.1f} GiB")
            self.report()
            if server is not self.ours:
                server.settle()

    def snapshot(self) -> None:
        """All disks sparse but for a block each, which is written anew before each snapshot."""
        name = f"{SNAPSHOT_ROW}, order to durable"
        if not self.wanted(name):
            return
        disks = [str(uuid.uuid4()) for _ in range(SNAPSHOT_DISKS)]
        engine = self.ours.engine
        for disk in disks:
            engine.vdisk_create(disk, 1024 * GiB, export_name=f"wide-{disk}")
        for number in range(SNAPSHOT_REPEATS):
            for disk in disks:
                with NbdClient.unix(engine.nbd_socket, f"wide-{disk}") as client:
                    client.write(number * MiB, os.urandom(4096))
            started = time.perf_counter()
            engine.snapshot_create(str(uuid.uuid4()), disks, manifest={})
            took = 1000 * (time.perf_counter() - started)
            self.samples.append(Sample(name, "stargate", took, "ms", {"load": os.getloadavg()[0]}))
        self._say(f"{name}: {sorted(s.value for s in self.samples if s.row == name)[SNAPSHOT_REPEATS // 2]:.2f} ms")


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
        sustained = not args.quick and (not args.only or any(t.lower() in "sustained" for t in args.only))
        with (
            work_folder(space_needed(16 * GiB if not args.quick else 4 * GiB, sustained=sustained)) as work,
            ExitStack() as stack,
        ):
            bench = Bench(args, work, stack)
            bench.rounds()
            bench.snapshot()
            bench.sustained()
            found = bench.report()
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    missed = [row for row in found if row["holds"] is False]
    print(f"{len(found)} rows, {len(missed)} below their bar; see bench/results.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
