# SPDX-License-Identifier: Apache-2.0
"""`make conformance`: clients and servers of other makers, and a QEMU guest, against a real engine."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.conformance import copier, filesystem, guest, negotiation, secured, semantics
from tests.conformance.kit import Bench, Check, Report, run_checks, say, start
from tests.support.engine_site import EngineSite

CHECKS: list[Check] = [
    check for part in (negotiation, semantics, filesystem, copier, secured, guest) for check in part.CHECKS
]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of patterns, images and loads")
    parser.add_argument("--count", type=int, default=1, help="how often loads and faults are repeated")
    parser.add_argument("--rows", default="", help="only these, such as N1,N4,guest")
    parser.add_argument("--list", action="store_true", help="name the checks and end")
    return parser.parse_args(argv)


def chosen(rows: str) -> list[Check]:
    wanted = {row.strip().lower() for row in rows.split(",") if row.strip()}
    return [check for check in CHECKS if not wanted or check.row.lower() in wanted]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 when a check failed or none was tried."""
    args = _arguments(argv)
    checks = chosen(args.rows)
    if args.list:
        for check in checks:
            say(f"{check.row} {check.name}")
        return 0
    seed = random.randrange(1 << 31) if args.seed is None else args.seed
    say(f"conformance: seed {seed}")
    report = _run(checks, seed, args.count)
    for name, reason in report.skipped.items():
        say(f"skipped: {name}: {reason}")
    for name in report.failed:
        say(f"failed: {name}")
    failed = bool(report.failed) or not report.tried
    if os.environ.get("PRISM_NO_SKIPS") == "1":
        failed = failed or bool(report.skipped)
    if failed:
        rows = ",".join(dict.fromkeys(name.split()[0] for name in report.failed)) or args.rows
        say(f"again: .venv/bin/python -m tests.conformance --seed {seed} --count {args.count} --rows '{rows}'")
    say(f"conformance: {report.tried} checks, {len(report.failed)} failed")
    return int(failed)


def _run(checks: Sequence[Check], seed: int, count: int) -> Report:
    folder = Path(tempfile.mkdtemp(prefix="conf-", dir="/tmp"))  # short: it holds unix sockets
    site = EngineSite(folder / "site", hot_limit_mib=1024)
    try:
        start(site)
        return run_checks(checks, Bench(site, folder, seed, count))
    finally:
        site.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
