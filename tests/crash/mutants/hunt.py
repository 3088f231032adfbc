# SPDX-License-Identifier: Apache-2.0
"""Catch one mutant: by its named test, or by exploring until something is wrong."""

from __future__ import annotations

import contextlib
import io
from itertools import count
from typing import NamedTuple

import pytest

from tests.crash.explore import explore
from tests.crash.mutants.breaking import broken
from tests.crash.mutants.table import MUTANTS

PLAIN = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:django", "-c", "/dev/null", "--rootdir=."]


class Caught(NamedTuple):
    """`by`: the explorer or a test; empty: it survived. `states`: opened until then."""

    mutant: str
    by: str
    states: int
    what: str


def hunt(name: str, seed: int, most: int) -> Caught:
    """In a process of its own: the code stays broken only inside, but what it made may be broken too."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    with broken(mutant):
        if mutant.test:
            return _by_test(name, mutant.test)
        return _by_explorer(name, seed, most)


def control(seed: int, most: int) -> Caught:
    """The same histories with nothing broken: what is caught here says nothing about a mutant."""
    return _by_explorer("nothing broken", seed, most)


def _by_test(name: str, test: str) -> Caught:
    with contextlib.redirect_stdout(io.StringIO()):
        failed = pytest.main([*PLAIN, test]) == pytest.ExitCode.TESTS_FAILED
    short = test.rsplit("::", 1)[1]
    return Caught(name, "a named test" if failed else "", 0, short)


def _by_explorer(name: str, seed: int, most: int) -> Caught:
    states = 0
    for number in count():
        found = explore(seed + number, most - states)
        states += len(found.states)
        if found.violation:
            return Caught(name, "the explorer", states, " ".join(found.violation.split())[:150])
        if states >= most or number > most:
            return Caught(name, "", states, "")
    raise AssertionError("unreachable")
