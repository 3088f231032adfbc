# SPDX-License-Identifier: Apache-2.0
"""What the forecast promises is what the pruner does."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from dataprotection.services.retention_forecast import RUNS_MAX, Keeping, forecast, runs
from dataprotection.services.retention_plan import Action, Fact, Guards, plan_expiry

NOW = datetime(2026, 3, 20, 10, 17, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass
class Timetable:
    type: str = "HOURLY"
    every_nth: int = 1
    start_at: datetime = NOW
    end_at: datetime | None = None
    timezone: str = "UTC"


def _prune(today: list[Fact], keepings: list[Keeping], guards: Guards, until: datetime) -> list[datetime]:
    """What is left when the pruner runs at every quarter of an hour, as the leader does each minute."""
    coming = []
    for number, keeping in enumerate(keepings):
        length = {"HOURLY": HOUR, "DAILY": DAY}[keeping.grid.type] * keeping.grid.every_nth
        for index, at in enumerate(runs(keeping, until)):
            coming.append(Fact(UUID(int=(number + 7 << 70) + index), at, at + length * keeping.keep))
    coming.sort(key=lambda fact: fact.created_at)
    facts, at = list(today), NOW
    while at <= until:
        while coming and coming[0].created_at <= at:
            facts.append(coming.pop(0))
        actions = {decision.uuid: decision.action for decision in plan_expiry(facts, at, guards)}
        facts = [
            replace(fact, expired=fact.expired or actions[fact.uuid] is Action.EXPIRE)
            for fact in facts
            if actions[fact.uuid] is not Action.REMOVE
        ]
        at += timedelta(minutes=15)
    return [fact.created_at for fact in facts if not fact.expired]


@pytest.mark.parametrize("seed", range(40))
def test_it_tells_what_the_pruner_will_have_left(seed: int) -> None:
    rng = random.Random(seed)
    print("seed", seed)

    def quarter(limit: int) -> timedelta:
        return timedelta(minutes=15 * rng.randrange(limit))

    today = [
        Fact(UUID(int=index + 1), NOW - quarter(400), rng.choice([None, NOW + quarter(900), NOW + quarter(60)]))
        for index in range(rng.randrange(12))
    ]
    keepings = [
        Keeping(
            Timetable(rng.choice(["HOURLY", "DAILY"]), rng.randrange(1, 5), end_at=rng.choice([None, NOW + 2 * DAY])),
            rng.randrange(1, 8), NOW + quarter(20),
        )
        for _ in range(rng.randrange(3))
    ]  # fmt: skip
    keepings = [
        replace(keeping, grid=replace(keeping.grid, start_at=keeping.from_at))
        for keeping in keepings  # type: ignore[type-var]
    ]
    guards = Guards(min_snapshots_to_retain=rng.randrange(1, 5))
    for day in (1, 3, 6):
        (told,) = forecast(today, keepings, guards, NOW, [day])
        left = _prune(today, keepings, guards, told.at)
        assert told.points == len(left)
        assert told.oldest == min(left, default=None)
        assert told.newest == max(left, default=None)


def test_it_counts_which_of_todays_points_are_gone() -> None:
    today = [Fact(UUID(int=n), NOW - n * HOUR, NOW + n * HOUR) for n in range(1, 11)]
    keeping = Keeping(Timetable(), 3, NOW + HOUR)
    now, later = forecast(today, [keeping], Guards(), NOW, [0, 1])
    assert (now.points, now.gone) == (10, 0)
    assert (later.points, later.gone) == (3, 10)
    assert later.newest == NOW + DAY


def test_it_keeps_the_promised_minimum_of_a_schedule_that_has_ended() -> None:
    today = [Fact(UUID(int=n), NOW - n * HOUR, NOW + HOUR) for n in range(1, 6)]
    (told,) = forecast(today, [], Guards(min_snapshots_to_retain=2), NOW, [30])
    assert (told.points, told.gone, told.newest) == (2, 3, NOW - HOUR)


def test_it_says_nothing_about_more_runs_than_it_can_walk() -> None:
    keeping = Keeping(Timetable(), 3, NOW)
    assert len(forecast([], [keeping], Guards(), NOW, [1, 7, 30, 10 * 365])) == 3
    assert len(runs(keeping, NOW + 10 * 365 * DAY)) == RUNS_MAX + 1


def test_it_leaves_out_what_nobody_can_restore_from() -> None:
    hidden = Fact(UUID(int=1), NOW - HOUR, None, hidden_base=True)
    expired = Fact(UUID(int=2), NOW - HOUR, NOW - HOUR, expired=True)
    (told,) = forecast([hidden, expired], [], Guards(), NOW, [0])
    assert (told.points, told.newest) == (0, None)
