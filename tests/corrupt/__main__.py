# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.corrupt --cases 2000 [--seed n]`: damages stored bytes of either of two sites, and sees to it that
all that matters is found, healed or refused."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

from tests.corrupt.case import CASES_PER_BASE, Outcome, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.corrupt", description=__doc__)
    parser.add_argument("--cases", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--seed", type=int, help="the first of them (default: chosen at random)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--verbose", action="store_true", help="tell every case")
    args = parser.parse_args()
    first = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 24) * CASES_PER_BASE
    outcomes = []
    for outcome in play(range(first, first + args.cases), args.jobs):
        outcomes.append(outcome)
        if outcome.error:
            print(f"case {outcome.seed}: {outcome.story}: {outcome.error}\n  replay: {replay(outcome)}", flush=True)
        elif args.verbose:
            print(f"case {outcome.seed}: {outcome.story}", flush=True)
    print(summary(outcomes))
    return 1 if not outcomes or any(outcome.error for outcome in outcomes) else 0


def play(seeds: range, jobs: int) -> Iterable[Outcome]:
    if jobs == 1 or len(seeds) == 1:
        yield from map(run, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run, seeds, chunksize=CASES_PER_BASE)


def replay(outcome: Outcome) -> str:
    return f"python -m tests.corrupt --cases 1 --seed {outcome.seed} --verbose"


def summary(outcomes: list[Outcome]) -> str:
    """The last line."""
    live = [o for o in outcomes if o.live]
    lost = [o for o in live if "not found" in o.error]
    healable = [o for o in live if o.healable]
    healed = [o for o in healable if o.healed and not o.error]
    refused = sum(o.refused for o in live)
    wrong = sum("WRONG BYTES" in o.error for o in outcomes)
    broken = sum(bool(o.error) for o in outcomes)
    found = 100 * (len(live) - len(lost)) // len(live) if live else 0
    return (
        f"corrupt: {len(outcomes)} cases: {len(live)} live damage, {found} % found, {len(healed)} of {len(healable)} "
        f"healable healed, {len(live) - len(healable)} unhealable answered EIO ({refused} by a refused start), "
        f"{len(outcomes) - len(live)} dead, {wrong} wrong bytes" + (f", {broken} VIOLATIONS" if broken else "")
    )


if __name__ == "__main__":
    sys.exit(main())
