# SPDX-License-Identifier: Apache-2.0
"""`make storm KILLS=300 [SEED=n]`: kill -9 of front, store or both, of either site, under verified load."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from tests.storm.fullcap import full_cap_kills
from tests.storm.kills import Report, percentile, storm

FULL_PERCENT = 8
FULL_CAP_FROM = 100
FULL_CAP_KILLS = 4
P99_SECONDS_MAX = 5.0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="storm", description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None, help="of kinds, victims, moments and data")
    parser.add_argument("--full", type=int, default=None, help="kills with a full log of 64 MiB (default: 8 %%)")
    parser.add_argument(
        "--full-cap",
        type=int,
        default=None,
        help="kills with a full log of the default cap, 4 GiB (default: 4 of 100 and more)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 1 on a violation, on zero kills, or when serving again took too long."""
    args = _arguments(argv)
    seed = random.randrange(1 << 31) if args.seed is None else args.seed
    big = args.full_cap if args.full_cap is not None else FULL_CAP_KILLS * (args.kills >= FULL_CAP_FROM)
    big = min(big, args.kills)
    full = args.full if args.full is not None else max(0, -(-args.kills * FULL_PERCENT // 100) - big)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the engine's processes, too
    print(f"storm: seed {seed}", flush=True)
    with as_installed():
        report = _storms(seed, args.kills, full, big)
    return finish(report, seed, args.kills)


@contextmanager
def as_installed() -> Iterator[None]:
    """The engine's processes find their bytecode, as under `make up`, also where the environment forbids to write it
    beside the sources."""
    with tempfile.TemporaryDirectory(prefix="stb-", dir="/tmp") as folder, patch.dict(os.environ):
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        yield


def _storms(seed: int, kills_wanted: int, full: int, big: int) -> Report:
    report = Report()
    for run in (storm, full_cap_kills):
        folder = Path(tempfile.mkdtemp(prefix="sto-", dir="/tmp"))
        try:
            kills = kills_wanted - big if run is storm else big
            if kills > 0 and not report.violations:
                began = time.monotonic()
                report.add(run(folder, seed=seed, kills=kills, full=min(full, kills), say=_say))
                _say(f"  {kills} kills in {time.monotonic() - began:.0f} s")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return report


def _say(line: str) -> None:
    print(line, flush=True)


def finish(report: Report, seed: int, kills: int) -> int:
    for title, counts in (("during", report.during), ("victims", report.victims)):
        _say(f"{title}: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    for violation in report.violations:
        _say(f"VIOLATION {violation}")
    seconds = report.served_seconds
    p50, p99, longest = percentile(seconds, 50), percentile(seconds, 99), max(seconds, default=0.0)
    slow = p99 > P99_SECONDS_MAX
    failed = bool(report.violations) or slow or report.kills == 0
    if failed:
        _say(f"again: .venv/bin/python -m tests.storm --kills {kills} --seed {seed}")
    _say(
        f"storm: {report.kills} kills ({report.full} with a full log), {report.writes} acknowledged writes, "
        f"{len(report.violations)} violations (0 = none lost), serving again p50 {p50:.2f} s p99 {p99:.2f} s, "
        f"max {longest:.2f} s{' - too slow' if slow else ''}"
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
