# SPDX-License-Identifier: Apache-2.0
"""When a schedule is due: pure arithmetic on its grid.

Minutes and hours are elapsed time from the start. Days follow the wall clock of the schedule's time zone: a time that
does not exist on a day (spring) happens as much later as the clock jumped, one that exists twice (autumn) happens the
first time.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from dataprotection.choices import ScheduleType

_UNIT = {
    ScheduleType.MINUTELY: timedelta(minutes=1),
    ScheduleType.HOURLY: timedelta(hours=1),
    ScheduleType.DAILY: timedelta(days=1),
}


class Grid(Protocol):
    """The columns of a schedule that decide when it is due."""

    type: str
    every_nth: int
    start_at: datetime
    end_at: datetime | None
    timezone: str


def interval(schedule: Grid) -> timedelta:
    """The promised distance of two snapshots; a day counts as 24 hours."""
    return _UNIT[ScheduleType(schedule.type)] * schedule.every_nth


def next_due(schedule: Grid, after: datetime) -> datetime | None:
    """The first grid point later than `after`, in UTC; None when the schedule has ended by then."""
    if schedule.start_at > after:
        due: datetime = schedule.start_at
    elif schedule.type == ScheduleType.DAILY:
        due = _next_day(schedule, after)
    else:
        step = interval(schedule)
        due = schedule.start_at + step * ((after - schedule.start_at) // step + 1)
    if schedule.end_at is not None and due > schedule.end_at:
        return None
    return due.astimezone(UTC)


def _next_day(schedule: Grid, after: datetime) -> datetime:
    zone = ZoneInfo(schedule.timezone)
    start = schedule.start_at.astimezone(zone)
    days = (after.astimezone(zone).date() - start.date()).days
    # One step back, because a jump of the clock may have moved the point of the day before past midnight.
    step = max(0, days // schedule.every_nth - 1)
    while True:
        due = _on(start, start.date() + timedelta(days=step * schedule.every_nth), zone)
        if due > after:
            return due
        step += 1


def _on(start: datetime, day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, start.time(), zone).astimezone(UTC)
