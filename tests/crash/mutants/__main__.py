# SPDX-License-Identifier: Apache-2.0
"""`make crash-mutants [SEED=n]`: breaks one rule after the other and shows what catches it. Exits non-zero when one
survives."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import time
from functools import partial

from tests.crash.mutants.hunt import control, hunt
from tests.crash.mutants.table import MUTANTS

PROCESSES = 2
STATES = 20_000


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="crash-mutants", description=__doc__)
    parser.add_argument("--states", type=int, default=STATES, help="to explore before a mutant is said to survive")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    seed = random.randrange(1 << 31) if args.seed is None else args.seed
    print(f"crash-mutants: seed {seed}", flush=True)
    os.environ["PYTHONHASHSEED"] = "0"
    names = [mutant.name for mutant in MUTANTS if args.only in mutant.name]
    began = time.monotonic()
    survived = deepest = 0
    with multiprocessing.get_context("spawn").Pool(args.processes, maxtasksperchild=1) as pool:
        for found in pool.imap_unordered(partial(hunt, seed=seed, most=args.states), names):
            survived += not found.by
            deepest = max(deepest, found.states)
            print(f"  {found.mutant:34} {found.by or 'SURVIVED':12} {found.states:>6} states  {found.what}", flush=True)
        unbroken = pool.apply(control, (seed, max(1, deepest)))
    print(f"  {unbroken.mutant:34} {unbroken.by and 'CAUGHT':12} {unbroken.states:>6} states  {unbroken.what}")
    print(
        f"crash-mutants: {len(names)} mutants, {len(names) - survived} caught, {survived} survived, "
        f"{time.monotonic() - began:.0f} s"
    )
    return int(survived > 0 or bool(unbroken.by) or not names)


if __name__ == "__main__":
    sys.exit(main())
