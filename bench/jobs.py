# SPDX-License-Identifier: Apache-2.0
"""One fio job against one server."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Any

from bench.servers import BenchError, Server, cpu_seconds
from stargate.nbd.client import NbdClient
from stargate.units import MiB

TRICKLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Job:
    """What fio does. `seconds` 0 = a pass over the region instead; `bytes` 0 = as much as fits into the time."""

    name: str
    rw: str
    bs: str
    depth: int
    region_bytes: int
    seconds: float = 0
    fsync: bool = False
    rate: int = 0
    """Requests per second at most; 0: as many as it can."""

    trickle: bool = False
    """Another client writes 4 KiB twenty times a second, as a running guest does: the log is not drained for
    idleness."""


@dataclass(frozen=True, slots=True)
class Result:
    """`per_second` counts requests; CPU is that of the server's processes; `last_third` is the rate towards the end."""

    per_second: float
    mib_per_second: float
    p50_us: float
    p99_us: float
    p999_us: float
    max_ms: float
    cpu_us_per_request: float
    seconds: float
    bytes: int
    load: float
    steal_percent: float


def run(server: Server, job: Job) -> Result:
    """Raises BenchError when fio failed or, which its nbd engine can do, stopped early with plausible figures."""
    command = [
        "fio", "--name=bench", "--ioengine=nbd", f"--uri={server.uri}", f"--rw={job.rw}", f"--bs={job.bs}",
        f"--iodepth={job.depth}", f"--size={job.region_bytes}", "--randrepeat=0", "--norandommap",
        "--buffer_compress_percentage=40", "--output-format=json",
    ]  # fmt: skip
    if job.seconds:
        command += ["--time_based", f"--runtime={round(job.seconds)}"]
    if job.rate:
        command.append(f"--rate_iops={job.rate}")
    if job.fsync:
        command.append("--fsync=1")  # --fdatasync fails after one write in fio 3.33's nbd engine
    before, steal, started = cpu_seconds(server.pids()), _steal(), time.monotonic()
    with _Trickle(server.uri, job.region_bytes if job.trickle else None):
        done = subprocess.run(command, capture_output=True, text=True, cwd="/tmp", check=False)
    cpu, took = cpu_seconds(server.pids()) - before, time.monotonic() - started
    if done.returncode:
        raise BenchError(f"fio failed against {server.name}: {done.stderr.strip() or done.stdout.strip()}")
    steal = _steal() - steal
    return _result(server, job, done.stdout, cpu, 100 * steal / took / (os.cpu_count() or 1))


def _result(server: Server, job: Job, output: str, cpu: float, steal_percent: float) -> Result:
    found = json.loads(output[output.index("{") :])["jobs"][0]
    side: dict[str, Any] = found["write" if "write" in job.rw else "read"]
    seconds = side["runtime"] / 1000
    if found["error"] or not side["total_ios"] or (job.seconds and seconds < 0.9 * round(job.seconds)):
        raise BenchError(f"fio stopped early against {server.name} ({job.name}): error {found['error']}")
    percentile = {key: value / 1000 for key, value in side["clat_ns"]["percentile"].items()}
    return Result(
        per_second=side["iops"],
        mib_per_second=side["bw_bytes"] / MiB,
        p50_us=percentile["50.000000"],
        p99_us=percentile["99.000000"],
        p999_us=percentile["99.900000"],
        max_ms=side["clat_ns"]["max"] / 1e6,
        cpu_us_per_request=1e6 * cpu / side["total_ios"],
        seconds=seconds,
        bytes=side["io_bytes"],
        load=os.getloadavg()[0],
        steal_percent=steal_percent,
    )


def _steal() -> float:
    """Seconds of all cores taken away by the host since boot."""
    with open("/proc/stat") as file:
        return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


class _Trickle:
    """The other client of `Job.trickle`. It writes behind the region that is read."""

    def __init__(self, uri: str, offset: int | None) -> None:
        self._stop = threading.Event()
        self._thread = None
        if offset is not None:
            self._thread = threading.Thread(target=self._run, args=(uri, offset), daemon=True)

    def __enter__(self) -> None:
        if self._thread is not None:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, uri: str, offset: int) -> None:
        address, _, export = uri.removeprefix("nbd://").partition("/")
        host, _, port = address.partition(":")
        with NbdClient.tcp(host, int(port), export) as client:
            while not self._stop.wait(TRICKLE_SECONDS):
                client.write(offset, bytes(4096))
