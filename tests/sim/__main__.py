# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.sim --seeds 2000 [--seed n]`: runs seeds and prints for those that fail how to replay them."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.sim.runner import Result, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--first", type=int, help="the first of them (default: chosen at random)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no seed after so long")
    parser.add_argument("--fail-fast", action="store_true", help="end with the first violation")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happens, calls of the disks too")
    args = parser.parse_args()
    first = args.seed if args.seed is not None else args.first
    if first is None:
        first = random.SystemRandom().randrange(1 << 32)
    count = 1 if args.seed is not None else args.seeds
    if args.trace and args.seed is not None:
        return _tell(first, [run(first, watch=print)])
    results: list[Result] = []
    for result in _results(range(first, first + count), args.jobs, args.seconds):
        results.append(result)
        if result.error:
            print(f"seed {result.seed}: {result.error}\n  replay: python -m tests.sim --seed {result.seed}", flush=True)
            if args.fail_fast:
                break
        elif args.seed is not None:
            print(f"seed {result.seed}: trace {result.trace}")
    return _tell(first, results)


def _results(seeds: range, jobs: int, seconds: float) -> Iterator[Result]:
    end = time.monotonic() + seconds
    if jobs == 1 or len(seeds) == 1:
        for seed in seeds:
            if time.monotonic() > end:
                return
            yield run(seed)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for at in range(0, len(seeds), 16 * jobs):
            if time.monotonic() > end:
                return
            yield from pool.map(run, seeds[at : at + 16 * jobs])


def _tell(first: int, results: list[Result]) -> int:
    violations = sum(bool(result.error) for result in results)
    steps, faults = sum(r.steps for r in results), sum(r.faults for r in results)
    print(f"sim: {len(results)} seeds from {first}, {steps} steps, {faults} faults, {violations} violations")
    return 1 if violations or not results else 0


if __name__ == "__main__":
    sys.exit(main())
