# SPDX-License-Identifier: Apache-2.0
"""A small part of `make crash` and `make crash-mutants` on every run of the suite."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.calls import FAILURES, OPERATIONS, fail_calls
from tests.crash.explore import explore, replay
from tests.crash.mutants.breaking import Mutant, broken
from tests.crash.mutants.hunt import hunt
from tests.crash.mutants.table import MUTANTS


@pytest.mark.parametrize("seed", [1, 2])
def test_every_crash_state_of_a_history_is_right(seed: int) -> None:
    found = explore(seed, most=70)
    assert not found.violation, f"{found.violation}; again: python -m tests.crash --replay {found.replay}"
    assert len(found.states) == 70


def test_a_history_of_another_seed_each_time() -> None:
    seed = random.randrange(1 << 31)
    print(f"seed {seed}")
    found = explore(seed, most=40)
    assert not found.violation, f"{found.violation}; again: python -m tests.crash --replay {found.replay}"


@pytest.mark.parametrize("operation", range(len(OPERATIONS)), ids=[operation.name for operation in OPERATIONS])
def test_every_call_of_an_operation_may_fail(operation: int) -> None:
    for failure in range(len(FAILURES)):
        called = fail_calls(operation, failure, 1, 23)
        assert called.calls
        assert not called.violation, f"{called.violation}; again: python -m tests.crash --call {called.again}"


def test_a_history_repeats_exactly() -> None:
    first, second = explore(3, most=40), explore(3, most=40)
    assert first.states == second.states
    assert first.cuts == second.cuts


@pytest.mark.parametrize("name", ["no fdatasync: catalog commit", "no fdatasync: hot batch", "drain crosses a marker"])
def test_a_broken_rule_is_caught_and_shown_again(name: str) -> None:
    assert hunt(name, 1, 150).by == "the explorer"


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_each_mutant_breaks_something_that_is_still_there(mutant: Mutant) -> None:
    """A renamed function must take its mutant along."""
    with broken(mutant):
        pass
    if mutant.test:
        path, _, name = mutant.test.partition("::")
        assert f"def {name}(" in Path(path).read_text()


def test_a_violation_is_shown_again_by_its_number() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "no fdatasync: hot batch")
    with broken(mutant):
        found = explore(1, most=150)
        assert found.violation
        history, state = map(int, found.replay.split(":"))
        assert replay(history, state).violation == found.violation
    assert not replay(history, state).violation, "the rule holds again"
