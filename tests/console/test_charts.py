# SPDX-License-Identifier: Apache-2.0
"""Charts: round axes, gaps where nothing was measured, and a table and a file with the same figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from dataprotection.models import ProtectionDomain
from prism.core.models import Measurement
from prism.core.services import measurements
from prism.core.services.measurements import FREE, LATENCY, SENT, USED
from prism.webkit.charts import Frame, Line, in_columns, stepped
from prism.webkit.scales import BYTES, MICROSECONDS, RATE, SECONDS, Unit, Window, window
from replication.models import RemoteSite
from replication.web.charts import Arrival, age, lag, renewals
from tests.console.conftest import Rows, make_replication, make_snapshot

NOW = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def _hour() -> Window:
    return window("hour", now=NOW, since=None, zone=UTC)


def _at(minute: int) -> datetime:
    """So many minutes before the window of `_hour` ends."""
    return _hour().end - timedelta(minutes=minute)


@pytest.mark.parametrize(
    ("unit", "most", "texts"),
    [
        (BYTES, 3 << 30, ["0 B", "1 GiB", "2 GiB", "3 GiB"]),
        (BYTES, 1600 << 20, ["0 B", "512 MiB", "1 GiB", "1.5 GiB", "2 GiB"]),
        (BYTES, 0, ["0 B", "1 B"]),
        (RATE, 1500, ["0 KBps", "1 KBps", "2 KBps"]),
        (SECONDS, 5400, ["0", "30 min", "1 h", "1 h 30 min"]),
        (SECONDS, 3 * 86_400, ["0", "1 d", "2 d", "3 d"]),
        (MICROSECONDS, 1900, ["0 ms", "0.5 ms", "1 ms", "1.5 ms", "2 ms"]),
    ],
)
def test_it_draws_round_lines_with_their_unit(unit: Unit, most: int, texts: list[str]) -> None:
    assert [unit.text(value) for value in unit.lines(most)] == texts


def test_it_draws_few_lines_and_nothing_above_them() -> None:
    for unit in (BYTES, RATE, SECONDS, MICROSECONDS):
        for power in range(46):
            lines = unit.lines(3**power // 2**power)
            assert len(lines) <= 5
            assert lines[-1] >= 3**power // 2**power


@pytest.mark.parametrize(
    ("age_of", "key"),
    [
        (timedelta(minutes=5), "hour"),
        (timedelta(hours=2), "6h"),
        (timedelta(days=2), "week"),
        (timedelta(400), "month"),
    ],
)
def test_it_shows_all_there_is_unless_told_otherwise(age_of: timedelta, key: str) -> None:
    assert window("", now=NOW, since=NOW - age_of, zone=UTC).key == key
    assert window("day", now=NOW, since=NOW - age_of, zone=UTC).key == "day"
    assert window("<script>", now=NOW, since=None, zone=UTC, longest="day").key == "hour"


def test_it_puts_the_moments_of_the_users_day_on_the_axis() -> None:
    """On the day on which the clocks of Berlin jump from 2 to 3."""
    shown = window("day", now=NOW, since=None, zone=BERLIN)
    assert [text for _, text in shown.ticks()] == ["16:00", "20:00", "03-29", "04:00", "08:00", "12:00"]
    places = [place for place, _ in shown.ticks()]
    assert places[3] - places[2] == pytest.approx(3 / 24)
    assert places[4] - places[3] == pytest.approx(4 / 24)
    assert shown.zone_text == "Europe/Berlin (CEST)"


def test_it_breaks_the_line_where_nothing_was_measured() -> None:
    points = [(_at(minute), 1024 * minute) for minute in (30, 29, 28, 10)]
    drawn = Frame(_hour(), BYTES, 30 * 1024).held(points, timedelta(minutes=1))
    assert re.sub(r"[\d. ]+", "", drawn) == "MHLHLHMH"
    assert len(in_columns(points, _hour(), max)) == 4


def test_it_leaves_out_what_lies_outside_of_the_window() -> None:
    points = [(_at(61), 1), (_at(60), 2), (_at(1), 3), (_at(0), 4)]
    assert [value for _, value in in_columns(points, _hour(), max)] == [2, 3]


def test_it_writes_last_and_highest_and_the_same_figures_as_a_table() -> None:
    points = [(_at(3), 4096), (_at(2), 8192), (_at(1), 1024)]
    found = stepped("c", "Space", BYTES, _hour(), [Line("Used", "sent", points)], note="")
    assert (found.last, found.most) == ("1 KiB at 2026-03-29 12:00", "8 KiB at 2026-03-29 11:59")
    assert [(row.at, row.values, row.texts) for row in found.rows] == [
        ("2026-03-29 12:00", [1024], ["1 KiB"]),
        ("2026-03-29 11:59", [8192], ["8 KiB"]),
        ("2026-03-29 11:58", [4096], ["4 KiB"]),
    ]
    assert stepped("c", "Space", BYTES, _hour(), [Line("Used", "sent", [])], note="").paths == []


def test_it_tells_the_age_of_the_newest_copy_from_arrivals_alone() -> None:
    lane = [Arrival(_at(40), _at(45)), Arrival(_at(30), _at(50)), Arrival(_at(20), _at(21))]
    found, newest = renewals(lane, _at(90))
    assert [(step.before, step.after) for step in found] == [(50 * 60, 5 * 60), (25 * 60, 60)]
    assert newest == _at(21)  # the one that arrived in between was older than what was there
    drawn = age("a", "Age", lane, _hour(), now=NOW, before=_at(90), promised=timedelta(hours=1))
    assert drawn.last == "20 min now"
    assert drawn.most == "50 min at 2026-03-29 11:21"
    assert [row.values for row in drawn.rows] == [[1500, 60], [3000, 300]]
    assert [name for _, name in drawn.legend] == ["Age of the newest copy", "Promised by the schedule: 1 h"]
    never = age("a", "Age", [], _hour(), now=NOW, before=None)
    assert (never.paths, never.rows) == ([], [])


def test_it_begins_the_age_with_the_first_copy_and_not_before() -> None:
    drawn = age("a", "Age", [Arrival(_at(30), _at(31))], _hour(), now=NOW, before=None)
    assert dict(drawn.paths)["line sent"].startswith("M500 ")
    assert drawn.rows[0].texts == ["-", "1 min"]


def test_it_shows_a_lag_for_each_arrival_and_none_below_zero() -> None:
    drawn = lag("l", "Lag", [Arrival(_at(40), _at(45)), Arrival(_at(30), _at(29))], _hour())
    assert [row.values for row in drawn.rows] == [[0], [300]]
    assert [y for _, y in drawn.dots] == ["16.7", "100"]  # 5 of the 6 minutes of the axis, and none


@pytest.mark.django_db
def test_it_keeps_one_number_a_step_and_forgets_old_ones() -> None:
    for seconds, value in ((0, 5), (30, 7), (60, 11)):
        measurements.add(SENT, "x", NOW + timedelta(seconds=seconds), value)
        measurements.put(LATENCY, "x", NOW + timedelta(seconds=seconds), value)
    measurements.add(SENT, "y", NOW, 100)
    found = measurements.read({SENT: "x", LATENCY: "x"}, NOW, NOW + timedelta(minutes=2))
    assert [value for _, value in found[SENT]] == [12, 11]
    assert [value for _, value in found[LATENCY]] == [7, 11]
    measurements.put(USED, "", NOW - timedelta(days=40), 1)
    assert measurements.prune(NOW) == 1
    assert Measurement.objects.count() == 5


@pytest.fixture
def measured(rows: Rows) -> Rows:
    """Half an hour of everything."""
    now = timezone.now()
    ProtectionDomain.objects.update(created_at=now - timedelta(minutes=30))
    RemoteSite.objects.update(created_at=now - timedelta(minutes=30))
    for minute in range(1, 30):
        at = now - timedelta(minutes=minute)
        measurements.put(USED, "", at, 1 << 30)
        measurements.put(FREE, "", at, 1 << 30)
        measurements.put(LATENCY, rows.site.uuid, at, 1500)
        if minute < 4:
            for subject in (rows.site.uuid, rows.domain.pk):
                measurements.add(SENT, subject, at, 60 << 20)
    for number, minutes in ((1, 20), (2, 10)):
        snapshot = make_snapshot(rows.domain, number, rows.vm)
        at = now - timedelta(minutes=minutes)
        make_replication(rows.domain, snapshot, rows.site, state="SUCCEEDED", finished_at=at)
        rows.domain.snapshots.filter(pk=snapshot.pk).update(created_at=at - timedelta(minutes=2))
    from replication.models import Replication

    for row in Replication.objects.filter(state="SUCCEEDED"):
        Replication.objects.filter(pk=row.pk).update(snapshot_created_at=row.finished_at - timedelta(minutes=2))
    return rows


def test_it_shows_the_charts_of_a_domain_with_their_tables(reader: Client, measured: Rows) -> None:
    url = reverse("dp:domain", args=[measured.domain.pk])
    reader.cookies["prism_zone"] = "Europe%2FBerlin"
    text = reader.get(f"{url}?tab=metrics").content.decode()
    assert "Time zone Europe/Berlin (" in text
    for title in ("Bandwidth used (Tx)", "Recovery point age (RPO) on TM3", "Replication lag to TM3"):
        assert title in text
    assert "Promised by the schedule: 1 h" in text
    assert "Highest <strong>1 MBps at " in text
    assert text.count("Figures as a table") == 3
    answer = reader.get(f"{url}?tab=metrics&span=hour&chart=lag-1&export=csv")
    lines = answer.content.decode().split()
    assert answer["Content-Disposition"] == 'attachment; filename="fooPD-lag-1.csv"'
    assert [line.rpartition(",")[2] for line in lines[-2:]] == ["120", "120"]
    assert reader.get(f"{url}?tab=metrics&chart=nothing&export=csv")["Content-Type"].startswith("text/html")


def test_it_shows_the_charts_of_a_remote_site_and_of_home(reader: Client, measured: Rows) -> None:
    text = reader.get(reverse("rep:site", args=[measured.site.uuid])).content.decode()
    assert "Latency of the link to TM3" in text
    assert "Highest <strong>1.5 ms at " in text
    assert "Last <strong>2 min at " in text
    home = reader.get("/").content.decode()
    assert "Space used by this site" in home
    assert "What it may use" in home
    file = reader.get("/?chart=capacity&export=json").json()
    assert {row["Used by this site (bytes)"] for row in file} == {1 << 30}
    assert {row["What it may use (bytes)"] for row in file} == {2 << 30}


def test_it_gives_the_measurements_to_the_api(reader: Client, measured: Rows) -> None:
    sent = reader.get("/api/v1/measurements/", {"series": "sent", "subject": str(measured.site.uuid)}).json()
    assert [row["value"] for row in sent["results"]] == [60 << 20] * 3
    later = reader.get("/api/v1/measurements/", {"series": "latency", "since": sent["results"][-1]["at"]}).json()
    assert later["count"] == 3
    assert reader.get("/api/v1/measurements/", {"since": "soon"}).status_code == 422
    assert reader.post("/api/v1/measurements/").status_code in {403, 405}


def test_it_says_when_nothing_was_measured(reader: Client, rows: Rows) -> None:
    text = reader.get(reverse("rep:site", args=[rows.site.uuid])).content.decode()
    assert text.count("Nothing measured in this time.") == 4
    assert "Figures as a table" not in text


def test_it_asks_few_questions_for_the_charts_however_much_was_measured(
    reader: Client, measured: Rows, django_assert_max_num_queries: Callable[[int], AbstractContextManager[object]]
) -> None:
    pages = {
        reverse("dp:domain", args=[measured.domain.pk]) + "?tab=metrics": 11,
        reverse("rep:site", args=[measured.site.uuid]): 12,
    }
    for url, most in pages.items():
        reader.get(url)
        with django_assert_max_num_queries(most):
            reader.get(url, headers={"HX-Request": "true", "HX-Target": "pane-body"})
