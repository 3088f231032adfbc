# SPDX-License-Identifier: Apache-2.0
"""`make crash STATES=20000 [SEED=n]`: power cuts before every disk call of random histories, and failing calls.

Ends with one line: states opened, operations cut, violations. A violation prints the command that shows it again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from tests.crash.explore import Explored, explore, replay

PROCESSES = 2
EMPTY_MAX = 20
"""Histories in a row that may bring nothing new before the command gives up."""


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="crash", description=__doc__)
    parser.add_argument("--states", type=int, default=20_000, help="distinct on-disk states to open")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--replay", metavar="HISTORY:STATE", help="one state again, as a violation printed it")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    return parser.parse_args(argv)


def histories(seed: int) -> Iterator[int]:
    rng = random.Random(seed)
    while True:
        yield rng.randrange(1 << 31)


class Total:
    """What all histories gave together."""

    def __init__(self) -> None:
        self.states: set[bytes] = set()
        self.operations: Counter[str] = Counter()
        self.by_operation: Counter[str] = Counter()
        self.violations: list[Explored] = []
        self.empty = 0

    def add(self, found: Explored) -> None:
        before = len(self.states)
        self.states |= found.states
        self.empty = self.empty + 1 if len(self.states) == before else 0
        self.operations += found.operations
        self.by_operation += found.by_operation
        if found.violation:
            self.violations.append(found)


def run(seed: int, states: int, processes: int) -> Total:
    """Histories until there are `states` of them. Stops at the first violation."""
    os.environ["PYTHONHASHSEED"] = "0"  # of the processes that follow: sets in the same order at each run
    total, seeds, began = Total(), histories(seed), time.monotonic()
    said = began
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        running: set[Future[Explored]] = set()
        while len(total.states) < states and not total.violations and total.empty < EMPTY_MAX:
            while len(running) < processes:
                running.add(pool.submit(explore, next(seeds), states - len(total.states)))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                total.add(future.result())
            if time.monotonic() - said > 15:
                said = time.monotonic()
                rate = len(total.states) / (said - began)
                print(f"  {len(total.states)} states, {rate:.0f} per second", flush=True)
        for future in running:
            future.cancel()
    return total


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 1 on a violation or when nothing was explored."""
    args = _arguments(argv)
    if args.replay:
        return _replay(args.replay)
    seed = random.randrange(1 << 31) if args.seed is None else args.seed
    print(f"crash: seed {seed}", flush=True)
    total = run(seed, args.states, args.processes)
    for name, count in sorted(total.by_operation.items()):
        print(f"  {name:16} {total.operations[name] or '':>6} times {count:>7} states")
    for found in total.violations:
        print(f"VIOLATION in {found.violation}")
        print(f"again: .venv/bin/python -m tests.crash --replay {found.replay}")
    operations = sum(total.operations.values())
    print(f"crash: {len(total.states)} states over {operations} operations, {len(total.violations)} violations")
    return int(bool(total.violations) or not total.states)


def _replay(what: str) -> int:
    """One state, in a process of its own for the order of its sets."""
    history, _, state = what.partition(":")
    os.environ["PYTHONHASHSEED"] = "0"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(replay, int(history), int(state)).result()
    print(f"VIOLATION in {found.violation}" if found.violation else "no violation")
    return int(bool(found.violation))


if __name__ == "__main__":
    sys.exit(main())
