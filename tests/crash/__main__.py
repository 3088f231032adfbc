# SPDX-License-Identifier: Apache-2.0
"""`make crash STATES=20000 [SEED=n]`: power cuts before each disk call of random histories, and each call failing once.

Ends with one line: states opened, operations cut, calls failed, violations. A violation prints the command that shows
it again.
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
from itertools import product

from tests.crash.calls import FAILURES, OPERATIONS, Called, fail_calls, one_call
from tests.crash.explore import Explored, explore, replay

PROCESSES = 2
EMPTY_MAX = 20
"""Histories in a row that may bring nothing new before the command gives up."""

EVERY_CALL_FROM = 10_000
"""With fewer states asked for, not every call fails."""


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="crash", description=__doc__)
    parser.add_argument("--states", type=int, default=20_000, help="distinct on-disk states to open")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--replay", metavar="HISTORY:STATE", help="one state again, as a violation printed it")
    parser.add_argument("--call", metavar="OPERATION:FAILURE:N", help="one failing call again")
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
        self.calls = 0
        self.violations: list[tuple[str, str]] = []
        self.empty = 0

    def add(self, found: Explored) -> None:
        before = len(self.states)
        self.states |= found.states
        self.empty = self.empty + 1 if len(self.states) == before else 0
        self.operations += found.operations
        self.by_operation += found.by_operation
        if found.violation:
            self.violations.append((found.violation, f"--replay {found.replay}"))

    def add_calls(self, called: Called) -> None:
        self.calls += called.calls
        if called.violation:
            self.violations.append((called.violation, f"--call {called.again}"))


def pool(processes: int) -> ProcessPoolExecutor:
    """Processes in which sets have the same order at each run."""
    os.environ["PYTHONHASHSEED"] = "0"
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))


def run(seed: int, states: int, processes: int) -> Total:
    """Failing calls, then histories until there are `states`. Stops at the first violation."""
    total = Total()
    with pool(processes) as workers:
        stride = 1 if states >= EVERY_CALL_FROM else 7
        pairs = product(range(len(OPERATIONS)), range(len(FAILURES)))
        for future in [workers.submit(fail_calls, *pair, seed, stride) for pair in pairs]:
            total.add_calls(future.result())
        if not total.violations:
            print(f"  {total.calls} calls failed, one at a time", flush=True)
            _explore(total, workers, seed, states, processes)
    return total


def _explore(total: Total, workers: ProcessPoolExecutor, seed: int, states: int, processes: int) -> None:
    seeds, began = histories(seed), time.monotonic()
    said = began
    running: set[Future[Explored]] = set()
    while len(total.states) < states and not total.violations and total.empty < EMPTY_MAX:
        while len(running) < processes:
            running.add(workers.submit(explore, next(seeds), states - len(total.states)))
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            total.add(future.result())
        if time.monotonic() - said > 15:
            said = time.monotonic()
            print(f"  {len(total.states)} states, {len(total.states) / (said - began):.0f} per second", flush=True)
    for future in running:
        future.cancel()


def main(argv: list[str] | None = None) -> int:
    """Exit code 0; 1 on a violation or when nothing was explored."""
    args = _arguments(argv)
    seed = random.randrange(1 << 31) if args.seed is None else args.seed
    if args.replay or args.call:
        return _again(args.replay, args.call, seed)
    print(f"crash: seed {seed}", flush=True)
    total = run(seed, args.states, args.processes)
    for name, count in sorted(total.by_operation.items()):
        print(f"  {name:16} {total.operations[name] or '':>6} times {count:>7} states")
    for violation, again in total.violations:
        print(f"VIOLATION in {violation}")
        print(f"again: .venv/bin/python -m tests.crash {again}")
    print(
        f"crash: {len(total.states)} states over {sum(total.operations.values())} operations, "
        f"{total.calls} failed calls, {len(total.violations)} violations"
    )
    return int(bool(total.violations) or not total.states or not total.calls)


def _again(state: str | None, call: str | None, seed: int) -> int:
    """One state or call, in a process of its own for the order of its sets."""
    numbers = [int(part) for part in (state or call or "").split(":")]
    with pool(1) as workers:
        found = workers.submit(replay, *numbers) if state else workers.submit(one_call, *numbers, seed)
        violation = found.result().violation
    print(f"VIOLATION in {violation}" if violation else "no violation")
    return int(bool(violation))


if __name__ == "__main__":
    sys.exit(main())
