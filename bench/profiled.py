# SPDX-License-Identifier: Apache-2.0
"""Where the engine's time goes under one job.

    python -m bench.profiled --job randwrite-qd32 --seconds 5 [--part front|store] [--lines 25]

Samples the process with py-spy (a PATH entry, or installed into a virtualenv of its own in the work folder) and prints
the lines that hold it longest, with CPU time per request. Native time, such as a system call, counts for the Python
line that made it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from pathlib import Path

from bench import jobs
from bench.servers import BenchError, StargateServer
from stargate.units import GiB, MiB

RATE_HZ = 400
REGION = 2 * GiB
JOBS = {
    "randwrite-qd32": jobs.Job("", "randwrite", "4k", 32, REGION),
    "randwrite-qd1": jobs.Job("", "randwrite", "4k", 1, REGION),
    "flush-qd1": jobs.Job("", "randwrite", "4k", 1, REGION, fsync=True),
    "randread-recent": jobs.Job("", "randread", "4k", 32, REGION, trickle=True),
    "randread-drained": jobs.Job("", "randread", "4k", 32, REGION),
    "seqwrite": jobs.Job("", "write", "1m", 8, REGION),
    "seqread": jobs.Job("", "read", "1m", 8, REGION),
}


def py_spy(work: Path) -> str:
    """Path of a py-spy. Raises BenchError when there is none and none can be installed."""
    found = shutil.which("py-spy")
    if found is not None:
        return found
    folder = work / "py-spy"
    venv.create(folder, with_pip=True)
    done = subprocess.run([folder / "bin" / "pip", "install", "--quiet", "py-spy"], check=False)
    if done.returncode:
        raise BenchError("py-spy cannot be installed; put one on the PATH")
    return str(folder / "bin" / "py-spy")


def hot_lines(folded: str, thread: str) -> list[tuple[int, str]]:
    """(samples, line) of a folded-stack file, by the innermost frame, of the threads whose name holds `thread`."""
    lines: Counter[str] = Counter()
    for entry in folded.splitlines():
        stack, _, count = entry.rpartition(" ")
        frames = stack.split(";")
        if thread in stack:
            lines[frames[-1]] += int(count)
    return [(count, line) for line, count in lines.most_common()]


def measure(args: argparse.Namespace, work: Path) -> None:
    sampler = py_spy(work)
    server = StargateServer(work / "site", 4 * GiB)
    try:
        jobs.run(server, jobs.Job("prepare", "write", "1m", 8, REGION + 4 * MiB))
        job = JOBS[args.job]
        if not job.trickle:
            server.settle()
        pid = server.front_pid() if args.part == "front" else server.store_pid()
        out = work / "folded"
        duration = str(max(1, args.seconds - 1))
        record = [sampler, "record", "--threads", "-r", str(RATE_HZ), "-d", duration, "-f", "raw", "-o", str(out)]
        sampling = subprocess.Popen([*record, "-p", str(pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        timed = jobs.Job(args.job, job.rw, job.bs, job.depth, REGION, args.seconds, job.fsync, job.trickle)
        result = jobs.run(server, timed)
        sampling.wait()
        print(
            f"{args.job}: {result.per_second:,.0f}/s, p50 {result.p50_us:.0f} us, p99 {result.p99_us:.0f} us, "
            f"{result.cpu_us_per_request:.2f} us of CPU per request, load {result.load:.1f}"
        )
        lines = hot_lines(out.read_text(), args.thread)
        total = sum(count for count, _ in lines) or 1
        for count, line in lines[: args.lines]:
            print(f"{100 * count / total:5.1f} %  {line}")
    finally:
        server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--job", choices=JOBS, default="randwrite-qd32")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--part", choices=("front", "store"), default="front")
    parser.add_argument("--thread", default="", help="only threads whose name holds this: nbd, sync, drain, fold")
    parser.add_argument("--lines", type=int, default=25)
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=".") as folder:
            measure(args, Path(folder).absolute())
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
