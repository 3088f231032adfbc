# SPDX-License-Identifier: Apache-2.0
"""One explored history: the power goes before every call that changes the disk or the index, in several ways each."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from stargate.errors import StargateError
from stargate.front import link
from stargate.fs.memdisk import Op
from stargate.fs.survival import Way
from stargate.store import sweep
from tests.crash.judge import Violation, judge
from tests.crash.medium import CrashSite, Digests, Entropy
from tests.crash.workload import Workload

STEPS = 45
WAYS_PER_CALL = 3


class _Enough(BaseException):
    """As many states as were asked for."""


@dataclass
class Explored:
    """What one history gave. `states`: digests of the distinct states that were opened."""

    seed: int
    states: set[bytes] = field(default_factory=set)
    operations: Counter[str] = field(default_factory=Counter)
    by_operation: Counter[str] = field(default_factory=Counter)
    cuts: int = 0
    violation: str = ""
    replay: str = ""


class Explorer:
    """`only`: judge just the state of that number (a replay); `most`: stop after so many."""

    def __init__(self, seed: int, *, most: int = 1 << 30, only: int | None = None) -> None:
        self.found = Explored(seed)
        self._most = most
        self._only = only
        self._entropy = Entropy(f"{seed} engine")
        self._judged: set[tuple[bytes, int]] = set()
        self._digests = Digests()
        self._ways = Random(f"{seed} ways")
        self._inside = False
        self._workload: Workload | None = None
        self._at = Op("", "")

    def run(self) -> Explored:
        """Raises nothing: a violation is told in the result."""
        with self._entropy.instead(), small_steps():
            try:
                self._history()
            except _Enough:
                pass
            except Violation as exc:
                self._violated(str(exc))
            except (StargateError, OSError, AssertionError, LookupError, ValueError, TypeError) as exc:
                self._violated(f"while running: {type(exc).__name__}: {exc}")
        return self.found

    def _violated(self, what: str) -> None:
        workload = self._workload
        step = workload.step if workload is not None else "start"
        self.found.violation = f"{step}, before {self._at.name} of {self._at.path}: {what}"
        self.found.replay = f"{self.found.seed}:{self.found.cuts}"

    def _history(self) -> None:
        rng = Random(f"{self.found.seed} site")
        site = CrashSite(rng)
        workload = self._workload = Workload.__new__(Workload)
        site.watch(self._before)
        workload.__init__(self.found.seed, site)  # type: ignore[misc]
        workload.create()
        steps = [step for step, _ in workload.STEPS]
        weights = [weight for _, weight in workload.STEPS]
        for step in workload.rng.choices(steps, weights, k=STEPS):
            workload.step = step.__name__
            self.found.operations[step.__name__] += 1
            step(workload)
            workload.check()  # guests read from what runs, too, and much of what is wrong there heals at the next start
        self._before(Op("end", ""))

    def _before(self, op: Op) -> None:
        """The power may go at this moment."""
        workload = self._workload
        if self._inside or workload is None:
            return
        self._inside, self._at = True, op
        try:
            for way in (Way.NONE, Way.ALL, *self._ways.choices(list(Way), k=WAYS_PER_CALL - 2)):
                self._state(workload, way)
        finally:
            self._inside = False

    def _state(self, workload: Workload, way: Way) -> None:
        found = self.found
        found.cuts += 1
        allowed = workload.allowed()
        rng = Random(f"{found.seed}:{found.cuts}")
        site = workload.site.crashed(rng, way)
        digest = self._digests.of(site)
        new = digest not in found.states
        found.states.add(digest)
        found.by_operation[workload.step] += new
        if (digest, workload.promise) in self._judged:
            return
        self._judged.add((digest, workload.promise))
        if self._only in (None, found.cuts):
            with Entropy(f"{found.seed}:{found.cuts} engine").instead():
                judge(site, allowed, workload.delivery, rng)
        if len(found.states) >= self._most or self._only == found.cuts:
            raise _Enough


def explore(seed: int, most: int = 1 << 30) -> Explored:
    return Explorer(seed, most=most).run()


def replay(history: int, state: int) -> Explored:
    """The same history, of which only one state is opened."""
    return Explorer(history, only=state).run()


class small_steps:
    """The front follows the store in many small steps, a sweep does not wait for it in vain, and nobody reads the
    engine's messages about what was done to it."""

    def __enter__(self) -> None:
        logging.disable(logging.CRITICAL)
        self._was = link.SLICE_ENTRIES, sweep.FRONT_SECONDS
        link.SLICE_ENTRIES, sweep.FRONT_SECONDS = 3, 0.0

    def __exit__(self, *_: object) -> None:
        link.SLICE_ENTRIES, sweep.FRONT_SECONDS = self._was
        logging.disable(logging.NOTSET)
