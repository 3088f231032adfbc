# SPDX-License-Identifier: Apache-2.0
"""The timeline: windows and bars of any zone, lanes of places, addresses that mean nothing, many points."""

from __future__ import annotations

import random
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from dataprotection.models import Snapshot
from dataprotection.web.timeline import SPANS, Point, Timeline, edges_of, look, timeline, window
from tests.console.conftest import Rows, make_replication, make_snapshot

pytestmark = pytest.mark.usefixtures("no_workers")
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia")]


def _line(points: list[Point], **fields: object) -> Timeline:
    known: dict[str, Any] = {"span": "week", "at": "", "zone": UTC, "elsewhere": {}, **fields}
    elsewhere = known.pop("elsewhere")
    times = [point.at for some in (points, *elsewhere.values()) for point in some]
    wanted = look(**known, oldest=min(times), newest=max(times))
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    return timeline(wanted, here=points, elsewhere=elsewhere, now=now, params={})


def _at(text: str, zone: ZoneInfo = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("zone", ZONES, ids=str)
def test_it_counts_every_point_of_a_window_in_one_bar(span: str, zone: ZoneInfo) -> None:
    rng = random.Random(f"{span} {zone}")
    points = [
        Point(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(365 * 86400)), "scheduled")
        for _ in range(3000)
    ]
    found = _line(points, span=span, zone=zone, at="2026-03-29")
    inside = sum(found.start <= point.at < found.end for point in points)
    assert found.lanes[0].count == inside
    assert all(bar.x >= 0 and bar.x + bar.width <= 100.001 for bar in found.lanes[0].bars)
    assert all(part.y >= 0 and part.height > 0 for bar in found.lanes[0].bars for part in bar.parts)


@pytest.mark.parametrize(("day", "bars"), [("2026-03-29", 23 * 4), ("2026-10-25", 25 * 4), ("2026-06-01", 24 * 4)])
def test_it_gives_a_day_as_many_bars_as_it_has_quarters_of_an_hour(day: str, bars: int) -> None:
    start, end = window(SPANS["day"], _at(day), BERLIN)
    assert len(edges_of(SPANS["day"], start, end, BERLIN)) - 1 == bars
    assert start == _at(day)


def test_it_shows_the_seven_days_up_to_one_and_whole_months_and_years_of_the_users_zone() -> None:
    moment = _at("2026-11-22T23:30")
    assert window(SPANS["week"], moment, BERLIN) == (_at("2026-11-16"), _at("2026-11-23"))
    assert window(SPANS["month"], moment, BERLIN) == (_at("2026-11-01"), _at("2026-12-01"))
    assert window(SPANS["year"], moment, BERLIN) == (_at("2026-01-01"), _at("2027-01-01"))


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("zone", ZONES, ids=str)
def test_it_steps_through_time_without_gap_or_overlap(span: str, zone: ZoneInfo) -> None:
    points = [Point(datetime(year, 1, 1, tzinfo=UTC), "scheduled") for year in (1990, 2060)]
    found = _line(points, span=span, zone=zone, at="2026-03-27")
    for _ in range(6):
        assert found.later is not None
        following = _line(points, span=span, zone=zone, at=dict(parse_qsl(found.later[1:]))["at"])
        assert following.start == found.end
        assert following.earlier is not None
        before = _line(points, span=span, zone=zone, at=dict(parse_qsl(following.earlier[1:]))["at"])
        assert (before.start, before.end) == (found.start, found.end)
        found = following


def test_it_follows_a_bar_to_the_points_in_it() -> None:
    at = datetime(2026, 11, 20, 10, 7, 5, tzinfo=UTC)
    span, link = "year", ""
    for expected in ("week", "day", "hour", ""):
        found = _line([Point(at, "one_time")], span=span, at=link)
        (bar,) = found.lanes[0].bars
        assert found.start <= at < found.end
        if not expected:
            assert bar.link == "#points"
            break
        named = re.fullmatch(r"\?span=(\w+)&at=([\w%:-]+)", bar.link)
        assert named is not None
        span, link = named[1], named[2].replace("%3A", ":")
        assert span == expected


@pytest.mark.parametrize(
    "at", ["", "soon", "0001-01-01", "9999-12-31", "2026-13-01", "2026-11-23T10:00+99:00", "\x00", "9" * 10_000]
)
@pytest.mark.parametrize("span", ["", "century", "hour"])
def test_it_shows_the_newest_point_for_an_address_that_means_nothing(at: str, span: str) -> None:
    newest = datetime(2026, 11, 20, 10, 7, 5, tzinfo=UTC)
    found = _line([Point(newest, "scheduled"), Point(newest - timedelta(days=90), "scheduled")], at=at, span=span)
    assert found.start <= newest < found.end
    assert found.later is None
    assert found.earlier is not None


def test_it_tells_kinds_apart_and_keeps_expired_points_out_of_the_calendar() -> None:
    at = datetime(2026, 11, 20, 10, tzinfo=UTC)
    kinds = [Point(at, "scheduled"), Point(at, "one_time"), Point(at, "safety"), Point(at, "scheduled", forever=True)]
    found = _line([*kinds, Point(at, "scheduled", gone=True)], elsewhere={"south": [Point(at)]})
    assert {layer for layer, _, count in found.legend if count == 1} == {
        "auto", "manual", "other", "kept", "gone", "copy"
    }  # fmt: skip
    (day,) = [day for week in found.weeks for day in week if day.count]
    assert (day.number, day.count, day.elsewhere) == (20, 4, 1)
    assert [lane.name for lane in found.lanes] == ["This site", "south"]


def test_it_lays_the_month_out_from_monday() -> None:
    found = _line([Point(datetime(2026, 2, 28, tzinfo=UTC), "scheduled")])
    assert found.month == "February 2026"
    assert [len(week) for week in found.weeks] == [7] * len(found.weeks)
    first = [day.number for day in found.weeks[0]].index(1)
    assert first == date(2026, 2, 1).weekday()
    assert [day.number for week in found.weeks for day in week if day.number] == list(range(1, 29))


def _page(client: Client, rows: Rows, **query: str) -> str:
    answer = client.get(reverse("dp:domain", args=[rows.domain.pk]), {"tab": "timeline", **query})
    assert answer.status_code == 200
    return answer.content.decode()


def test_it_shows_a_lane_for_each_site_that_has_a_copy(reader: Client, rows: Rows) -> None:
    make_replication(rows.domain, make_snapshot(rows.domain, 1, rows.vm), rows.site, state="SUCCEEDED")
    text = _page(reader, rows)
    assert 'aria-label="TM3, 1 restore point"' in text
    assert "This site: 1 restore point, newest" in text
    assert "Restore" in text


def test_it_teaches_what_the_timeline_is_when_there_is_nothing_to_show(reader: Client, rows: Rows) -> None:
    Snapshot.objects.all().delete()
    text = _page(reader, rows)
    assert "No restore points yet" in text
    assert '<svg class="lane"' not in text


def test_it_shows_ten_thousand_points_in_a_hundred_kilobytes(
    reader: Client, rows: Rows, django_assert_max_num_queries: object
) -> None:
    now = timezone.now()
    template = make_snapshot(rows.domain, 1, rows.vm)
    Snapshot.objects.bulk_create(
        Snapshot(
            domain=rows.domain, domain_name="fooPD", display_id=str(number), cluster_id=1, incarnation_id=1,
            local_id=number, created_at=now - timedelta(hours=number), state="AVAILABLE",
            origin_site_uuid=template.origin_site_uuid, kind="scheduled", manifest={}, size_bytes=1,
        )
        for number in range(2, 10_002)
    )  # fmt: skip
    for span in SPANS:
        answer = reader.get(
            reverse("dp:domain", args=[rows.domain.pk]),
            {"tab": "timeline", "span": span},
            headers={"HX-Request": "true"},
        )
        assert answer.status_code == 200
        assert len(answer.content) < 100_000
    with django_assert_max_num_queries(27):  # type: ignore[operator]
        _page(reader, rows, span="year")
