# SPDX-License-Identifier: Apache-2.0
"""A small `make stun`, and its judgement."""

from __future__ import annotations

from pathlib import Path

from tests.storm.standstill import overlap, together
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


def test_it_shows_where_the_machine_stood_still_and_judges_all_the_same() -> None:
    found = Measured(stills=[(1.0, 1.01), (2.5, 2.528)])
    judge(found, [*QUIET, (2.499, 2.53)], [(2.0, 2.004)], [(0.0, 1.0)])
    said: list[str] = []
    assert finish(found, said.append) == 1
    assert (round(found.near[0], 3), round(found.near_awake[0], 3), found.above) == (0.031, 0.003, 1)
    assert any("2 times, 28.00 ms at most; without that time: max 3.00 ms, 0 above the bar" in line for line in said)


def test_it_calls_a_standstill_only_what_all_cores_share() -> None:
    first = [(1.0, 1.010), (2.0, 2.003), (3.0, 3.020)]
    second = [(1.005, 1.012), (2.5, 2.6), (2.99, 3.001), (3.004, 3.006)]
    shared = together([first, second])
    assert shared == [(1.005, 1.010), (3.0, 3.001), (3.004, 3.006)]
    assert together([first, []]) == []
    assert together([]) == []
    assert round(overlap(shared, 1.008, 3.005), 6) == 0.004
    assert overlap([], 0.0, 9.0) == 0.0
