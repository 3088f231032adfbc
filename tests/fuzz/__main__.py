# SPDX-License-Identifier: Apache-2.0
"""`make fuzz MESSAGES=200000 SEED=n`: hostile messages on the NBD and the peer port of a real engine."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from functools import partial
from pathlib import Path

from stargate.units import MiB
from tests.fuzz.attack import GROWTH_BYTES_MAX, NEIGHBOUR_SHARE_MIN, Attack, Report


def judged(report: Report) -> list[str]:
    """Everything that must not be."""
    found = list(report.violations)
    found += [
        f"the {name} grew by {size / MiB:.0f} MiB"
        for name, size in report.growth_bytes.items()
        if size > GROWTH_BYTES_MAX
    ]
    if report.neighbour_share < NEIGHBOUR_SHARE_MIN:
        found.append(f"the neighbour kept {report.neighbour_share:.0%} of its requests per second")
    if not report.nbd_messages or not report.peer_messages:
        found.append("nothing was tried")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        report = Attack(Path(folder), seed).run(options.messages, nice=15, say=partial(print, flush=True))
    bad = judged(report)
    for line in bad:
        print(f"VIOLATION {line}")
    if bad:
        print(f"again: make fuzz MESSAGES={options.messages} SEED={seed}")
    growth = ", ".join(f"{name} +{size / MiB:.1f} MiB" for name, size in sorted(report.growth_bytes.items()))
    print(
        f"fuzz: seed {seed}: {report.nbd_messages} NBD and {report.peer_messages} peer messages on "
        f"{report.connections} connections, {growth}, a neighbour kept {report.neighbour_share:.0%} "
        f"of its requests, {len(bad)} violations"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
