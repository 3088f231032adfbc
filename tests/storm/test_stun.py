# SPDX-License-Identifier: Apache-2.0
"""A small `make stun`, and its judgement."""

from __future__ import annotations

from pathlib import Path

from tests.storm.stun import Measured, finish, judge, measure

QUIET = [(number / 1000, number / 1000 + 0.001) for number in range(2000)]


def test_it_measures_beside_snapshots_and_in_quiet_phases(folder: Path) -> None:
    """The figures of a machine that runs tests prove nothing; that there are some does."""
    found = measure(folder, snapshots=2, rounds=1, rate=50, seed=1, log_cap_mib=64, say=print)
    assert found.failures == []
    assert (len(found.near), len(found.orders)) == (2, 2)
    assert len(found.quiet) > 20


def test_it_finds_a_stun() -> None:
    found = Measured()
    slow = [(2.5, 2.53), (4.2, 4.9)]  # the second begins more than a second after the snapshot
    judge(found, [*QUIET, *slow], [(2.0, 2.004)], [(0.0, 2.0)])
    assert [round(seconds, 3) for seconds in found.near] == [0.03]
    assert (found.bar_ms, found.above) == (5.0, 1)
    assert finish(found) == 1


def test_it_counts_a_write_that_was_under_way() -> None:
    found = Measured()
    judge(found, [*QUIET, (1.99, 2.2)], [(2.0, 2.004)], [(0.0, 1.9)])
    assert found.above == 1


def test_it_passes_what_stays_below_the_bar_and_fails_without_any_snapshot() -> None:
    found = Measured()
    judge(found, [*QUIET, (2.5, 2.504)], [(2.0, 2.004)], [(0.0, 2.0)])
    assert finish(found) == 0
    assert finish(Measured(quiet=[0.001])) == 1


def test_it_fails_when_no_guest_wrote_near_a_snapshot() -> None:
    found = Measured()
    judge(found, QUIET, [(50.0, 50.1)], [(0.0, 2.0)])
    assert finish(found) == 1
