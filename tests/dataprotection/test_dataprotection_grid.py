# SPDX-License-Identifier: Apache-2.0
"""When schedules are due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataprotection.services.grid import interval, next_due

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Sao_Paulo"]


@dataclass
class Plan:
    type: str
    every_nth: int
    start_at: datetime
    end_at: datetime | None = None
    timezone: str = "UTC"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(lambda found: found.replace(tzinfo=UTC))
plans = st.builds(
    Plan,
    type=st.sampled_from(["MINUTELY", "HOURLY", "DAILY"]),
    every_nth=st.integers(1, 400),
    start_at=moments,
    timezone=st.sampled_from(ZONES),
)


@given(plan=plans, after=moments)
def test_it_is_later_and_the_first_one_later(plan: Plan, after: datetime) -> None:
    due = next_due(plan, after)
    assert due is not None
    assert due > after
    assert due >= plan.start_at
    # Nothing of the grid lies between: from just before the point the same one is found.
    assert next_due(plan, max(after, due - timedelta(microseconds=1))) == due
    if due > plan.start_at:
        before = next_due(plan, max(plan.start_at, due - interval(plan) * 2 - timedelta(hours=3)) - timedelta(days=1))
        assert before is not None


@given(plan=plans, after=moments)
def test_it_keeps_its_distance(plan: Plan, after: datetime) -> None:
    first = next_due(plan, after)
    assert first is not None
    second = next_due(plan, first)
    assert second is not None
    slack = timedelta(hours=2) if plan.type == "DAILY" else timedelta(0)
    assert abs((second - first) - interval(plan)) <= slack


@given(plan=plans, after=moments)
def test_it_follows_the_wall_clock_for_days(plan: Plan, after: datetime) -> None:
    plan.type = "DAILY"
    zone = ZoneInfo(plan.timezone)
    due = next_due(plan, after)
    assert due is not None
    wanted, found = plan.start_at.astimezone(zone), due.astimezone(zone)
    assert (found.date() - wanted.date()).days % plan.every_nth == 0 or found.hour <= 1
    jumped = zone.utcoffset((due - timedelta(hours=3)).astimezone(zone).replace(tzinfo=None)) != found.utcoffset()
    assert jumped or found.time() == wanted.time()


def test_it_repeats_the_table_of_the_source_text() -> None:
    plan = Plan("HOURLY", 1, utc("2016-05-04T11:38:00"))
    due = next_due(plan, utc("2016-05-04T11:39:18"))
    assert due == utc("2016-05-04T12:38:00")
    assert next_due(plan, due) == utc("2016-05-04T13:38:00")


def test_it_skips_the_missing_hour_in_spring_and_takes_the_first_of_two_in_autumn() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    plan = Plan("DAILY", 1, datetime(2026, 3, 1, 2, 30, tzinfo=berlin), timezone="Europe/Berlin")
    assert next_due(plan, utc("2026-03-28T12:00:00")) == utc("2026-03-29T01:30:00")
    assert next_due(plan, utc("2026-03-29T12:00:00")) == utc("2026-03-30T00:30:00")
    assert next_due(plan, utc("2026-10-24T12:00:00")) == utc("2026-10-25T00:30:00")
    assert next_due(plan, utc("2026-10-25T00:30:00")) == utc("2026-10-26T01:30:00")


@pytest.mark.parametrize("kind", ["MINUTELY", "HOURLY", "DAILY"])
def test_it_ends(kind: str) -> None:
    plan = Plan(kind, 1, utc("2026-01-01T00:00:00"), end_at=utc("2026-01-02T00:00:00"))
    assert next_due(plan, utc("2026-01-01T12:00:00")) is not None
    assert next_due(plan, utc("2026-01-02T00:00:00")) is None
