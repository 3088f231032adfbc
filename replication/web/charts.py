# SPDX-License-Identifier: Apache-2.0
"""Charts of replications: bandwidth and latency from measurements, lag and age of the newest copy from the rows.

Lag and age are not sampled: when each snapshot was taken and when it arrived stands in its row, and between two
arrivals the newest copy grows older by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from prism.core.services import measurements
from prism.core.services.measurements import Points
from prism.webkit import charts
from prism.webkit.charts import Chart, Frame, Line
from prism.webkit.scales import MICROSECONDS, RATE, SECONDS, Window
from prism.webkit.scales import window as window_of
from prism.webkit.times import zone_of
from replication.choices import Direction
from replication.models import RemoteSite, Replication
from replication.states import ReplicationState

ARRIVALS_MAX = 5000
SENT_NOTE = (
    "Bytes on the wire, both ways, counted here while it sends. A column is the mean of the minutes in which something "
    "was sent; where there is none, nothing was sent."
)


@dataclass(frozen=True)
class Arrival:
    """A snapshot that is complete on the other side since `at`."""

    at: datetime
    taken_at: datetime

    @property
    def lag(self) -> int:
        """Seconds from the snapshot until its copy was complete; never below zero, whatever the clocks say."""
        return max(0, int((self.at - self.taken_at).total_seconds()))


Lane = tuple[str, str]
"""Direction and name of the other site."""


def arrivals(rows: QuerySet[Replication], window: Window) -> dict[Lane, list[Arrival]]:
    """Those in the window by lane, oldest first."""
    done = rows.filter(state=ReplicationState.SUCCEEDED, finished_at__gte=window.start, finished_at__lt=window.end)
    found: dict[Lane, list[Arrival]] = {}
    newest = done.order_by("-finished_at").values_list("direction", "site__name", "finished_at", "snapshot_created_at")
    for direction, name, at, taken_at in reversed(newest[:ARRIVALS_MAX]):
        if at is not None:
            found.setdefault((direction, name), []).append(Arrival(at, taken_at))
    return found


def newest_before(rows: QuerySet[Replication], window: Window) -> dict[Lane, datetime]:
    """When the newest copy was taken that each lane had as the window begins."""
    done = rows.filter(state=ReplicationState.SUCCEEDED, finished_at__lt=window.start)
    newest = done.order_by().values("direction", "site__name").annotate(newest=Max("snapshot_created_at"))
    return {(row["direction"], row["site__name"]): row["newest"] for row in newest}


def bandwidth(key: str, title: str, sent: Points, window: Window) -> Chart:
    """Of the series SENT."""
    seconds = int(measurements.SENT.step.total_seconds())
    rates = [(at, count // seconds) for at, count in sent]
    points = charts.in_columns(rates, window, lambda values: sum(values) // len(values))
    return charts.stepped(key, title, RATE, window, [Line("Sent", "sent", points, held=False)], note=SENT_NOTE)


def latency(key: str, site: RemoteSite, answers: Points, window: Window) -> Chart:
    """Of the series LATENCY."""
    points = charts.in_columns(answers, window, max)
    note = "The slowest answer to a ping in each column. A gap: the site did not answer, or nobody asked."
    title = f"Latency of the link to {site.name}"
    return charts.stepped(key, title, MICROSECONDS, window, [Line("Latency", "sent", points)], note=note)


def lag(key: str, title: str, lane: Iterable[Arrival], window: Window) -> Chart:
    """A dot per snapshot that arrived: how long after it was taken."""
    note = "From the moment of the snapshot until its copy was complete. A dot is one snapshot."
    points = sorted((arrival.at, arrival.lag) for arrival in lane)
    if not points:
        return Chart(key, title, note, window.zone_text)
    frame = Frame(window, SECONDS, max(value for _, value in points))
    last, most = charts.extremes(points, window, SECONDS)
    return Chart(
        key, title, note, window.zone_text, last, most, frame.lines(), frame.ticks(),
        [], frame.dots(points), [], ["Lag (seconds)"], ["Lag"],
        [charts.row(at, window, SECONDS, [value]) for at, value in reversed(points)],
    )  # fmt: skip


@dataclass(frozen=True)
class Renewal:
    """An arrival that was newer than what was there: how old the newest copy was before (None: there was none), after.

    Seconds."""

    at: datetime
    before: int | None
    after: int


def renewals(lane: Iterable[Arrival], newest: datetime | None) -> tuple[list[Renewal], datetime | None]:
    """What each arrival did to the age, oldest first; and when the newest copy was taken in the end."""
    found = []
    for arrival in lane:
        if newest is not None and arrival.taken_at <= newest:
            continue
        before = None if newest is None else max(0, int((arrival.at - newest).total_seconds()))
        newest = arrival.taken_at
        found.append(Renewal(arrival.at, before, arrival.lag))
    return found, newest


def age(
    key: str, title: str, lane: Iterable[Arrival], window: Window, *, now: datetime, before: datetime | None,
    promised: timedelta | None = None,
) -> Chart:  # fmt: skip
    """How old the newest copy was at each moment. `before`: when the one was taken that was there as the window began.

    `promised`: the interval of the schedule; it is drawn too.
    """
    note = "Age of the newest complete copy: what would be lost if it had to be used at that moment."
    steps, newest = renewals(lane, before)
    if newest is None:
        return Chart(key, title, note, window.zone_text)
    present = max(0, int((now - newest).total_seconds()))
    shown = SECONDS.text(present // 60 * 60) if present >= 60 else "less than a minute"
    corners = [] if before is None else [(window.start, max(0, int((window.start - before).total_seconds())))]
    for step in steps:
        corners += [(step.at, step.after)] if step.before is None else [(step.at, step.before), (step.at, step.after)]
    corners.append((now, present))
    limit = int(promised.total_seconds()) if promised else 0
    frame = Frame(window, SECONDS, max(limit, *(value for _, value in corners)))
    paths = [("line sent", "M" + "L".join(f"{frame.x(at):g} {frame.y(value):g}" for at, value in corners))]
    legend = []
    if limit:
        paths.append(("line limit", f"M0 {frame.y(limit):g}H{charts.WIDTH}"))
        legend = [("sent", "Age of the newest copy"), ("limit", f"Promised by the schedule: {SECONDS.text(limit)}")]
    at, most = max(corners, key=lambda corner: corner[1])
    worst = f"{shown} now" if at == now else f"{SECONDS.text(most)} at {charts.moment(at, window)}"
    return Chart(
        key, title, note, window.zone_text, f"{shown} now",
        worst, frame.lines(), frame.ticks(), paths, [], legend,
        ["Age just before (seconds)", "Age then (seconds)"], ["Age just before", "Age then"],
        [charts.row(step.at, window, SECONDS, [step.before, step.after]) for step in reversed(steps)],
    )  # fmt: skip


def site_charts(request: HttpRequest, site: RemoteSite) -> dict[str, Any]:
    """Context of a remote site's page: bandwidth and latency of the link, lag each way. Two queries."""
    now = timezone.now()
    shown = window_of(request.GET.get("span", ""), now=now, since=site.created_at, zone=zone_of(request))
    wanted = {measurements.SENT: site.uuid, measurements.LATENCY: site.uuid}
    found = measurements.read(wanted, shown.start, shown.end)
    lanes = arrivals(Replication.objects.filter(site=site), shown)
    return {
        "charts": [
            bandwidth("bandwidth", f"Bandwidth used to {site.name}", found[measurements.SENT], shown),
            latency("latency", site, found[measurements.LATENCY], shown),
            lag("lag-out", f"Replication lag to {site.name}", lanes.get((Direction.OUT, site.name), []), shown),
            lag("lag-in", f"Replication lag from {site.name}", lanes.get((Direction.IN, site.name), []), shown),
        ],
        "spans": charts.spans(shown, {}),
        "chart_params": f"span={shown.key}&",
    }
