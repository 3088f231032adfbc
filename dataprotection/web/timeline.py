# SPDX-License-Identifier: Apache-2.0
"""The timeline of a domain's restore points: a strip of bars with a lane for each place, and a calendar.

Made on the server in two queries, in the user's zone; its table twin stands below it. A day of 23 or 25 hours has as
many bars as it has hours.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from urllib.parse import urlencode

from dataprotection.choices import SnapshotKind

YEARS = range(1971, 9998)
"""An address may name any time; others are not even counted with."""

LANE_PIXELS = 56
LABELS_MAX = 8

Edges = list[datetime]

_BY_KIND: dict[str, str] = {SnapshotKind.SCHEDULED.value: "auto", SnapshotKind.ONE_TIME.value: "manual"}


@dataclass(frozen=True)
class Span:
    """How much is shown at once. `inner`: the span that a bar with several points opens, "" = the points themselves."""

    key: str
    label: str
    inner: str
    bar: timedelta | None
    """Width of a bar; None: one calendar day, week or month (`unit`)."""
    unit: str
    tick: str
    """strftime of the labels below the strip."""


SPANS = {
    span.key: span
    for span in (
        Span("hour", "Hour", "", timedelta(minutes=2), "", "%H:%M"),
        Span("day", "Day", "hour", timedelta(minutes=15), "", "%H:%M"),
        Span("week", "7 days", "day", timedelta(hours=3), "", "%a %d"),
        Span("month", "Month", "day", None, "day", "%d %b"),
        Span("year", "Year", "week", None, "week", "%b %d"),
    )
}
DEFAULT_SPAN = "week"


@dataclass(frozen=True)
class Point:
    """What the strip needs to know of a restore point. `kind` "": a copy on another site; `forever`: no expiration."""

    at: datetime
    kind: str = ""
    gone: bool = False
    forever: bool = False

    @property
    def layer(self) -> str:
        """The part of the bar that counts it."""
        if not self.kind:
            return "copy"
        if self.gone:
            return "gone"
        if self.forever:
            return "kept"
        return _BY_KIND.get(self.kind, "other")


LAYERS = {
    "auto": "by a schedule",
    "manual": "by hand",
    "kept": "without expiration",
    "other": "by a migration, restore or deactivation",
    "gone": "expired",
    "copy": "copied to another site",
}


@dataclass(frozen=True)
class Part:
    """A coloured piece of a bar, pixels from the top of its lane."""

    layer: str
    y: float
    height: float


@dataclass(frozen=True)
class Bar:
    """`x` and `width` in per cent of the strip."""

    key: str
    x: float
    width: float
    count: int
    label: str
    link: str
    parts: list[Part] = field(default_factory=list)


@dataclass(frozen=True)
class Lane:
    """One place that has restore points."""

    name: str
    bars: list[Bar]
    count: int


@dataclass(frozen=True)
class Day:
    """A cell of the calendar; `number` 0 is a gap before the first or after the last."""

    number: int = 0
    count: int = 0
    elsewhere: int = 0
    link: str = ""
    today: bool = False
    shown: bool = False
    label: str = ""


@dataclass(frozen=True)
class Timeline:
    """All of it. Addresses are None where there is nothing to go to."""

    span: Span
    start: datetime
    end: datetime
    title: str
    lanes: list[Lane]
    ticks: list[tuple[float, str]]
    legend: list[tuple[str, str, int]]
    month: str
    weeks: list[list[Day]]
    earlier: str | None
    later: str | None
    newest: str
    spans: list[tuple[str, str, str]]


def local_midnight(day: date, zone: tzinfo) -> datetime:
    """The first moment of a day."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def anchor_of(text: str, default: datetime, zone: tzinfo) -> datetime:
    """The moment that the address names: a day of the zone, or a time with its offset; `default` for anything else."""
    try:
        found = datetime.fromisoformat(text[:40])
    except ValueError:
        return default
    if found.year not in YEARS:
        return default
    if len(text) <= len("2026-11-23"):
        return local_midnight(found.date(), zone)
    return found.replace(tzinfo=zone).astimezone(UTC) if found.tzinfo is None else found.astimezone(UTC)


def _next_month(day: date, months: int = 1) -> date:
    count = day.year * 12 + day.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)


def window(span: Span, at: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """Begin and end of the hour, day, month or year that holds `at`, or of the seven days that end with its day."""
    local = at.astimezone(zone)
    day = local.date()
    if span.key == "hour":
        start = at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        return start, start + timedelta(hours=1)
    first, last = {
        "day": (day, day + timedelta(days=1)),
        "week": (day - timedelta(days=6), day + timedelta(days=1)),
        "month": (day.replace(day=1), _next_month(day)),
        "year": (date(day.year, 1, 1), date(day.year + 1, 1, 1)),
    }[span.key]
    return local_midnight(first, zone), local_midnight(last, zone)


def edges_of(span: Span, start: datetime, end: datetime, zone: tzinfo) -> Edges:
    """Begins of the bars and the end of the last: equal lengths of time, or days or weeks (from Monday) of the zone."""
    edges = [start]
    while edges[-1] < end:
        if span.bar is not None:
            edges.append(edges[-1] + span.bar)
        else:
            day = edges[-1].astimezone(zone).date()
            days = 1 if span.unit == "day" else 7 - day.weekday()
            edges.append(local_midnight(day + timedelta(days=days), zone))
    edges[-1] = end
    return edges


def _group(points: Iterable[Point], edges: Edges) -> dict[int, list[Point]]:
    found: dict[int, list[Point]] = {}
    for point in points:
        index = bisect_right(edges, point.at) - 1
        if 0 <= index < len(edges) - 1:
            found.setdefault(index, []).append(point)
    return found


def _parts(points: list[Point], most: int) -> list[Part]:
    """Stacked from the bottom; one point of many is still seen."""
    counts = Counter(point.layer for point in points)
    whole = max(6.0, (LANE_PIXELS - 4) * len(points) / most)
    bottom, parts = float(LANE_PIXELS), []
    for layer in LAYERS:
        if counts[layer]:
            height = whole * counts[layer] / len(points)
            bottom -= height
            parts.append(Part(layer, round(bottom, 1), round(height, 1)))
    return parts


class Strip:
    """Draws the lanes of one window."""

    def __init__(self, span: Span, at: datetime, zone: tzinfo, link: Callable[[dict[str, str]], str]) -> None:
        self.span, self.zone, self._link = span, zone, link
        self.start, self.end = window(span, at, zone)
        self.edges = edges_of(span, self.start, self.end, zone)
        self._seconds = (self.end - self.start).total_seconds()

    def share(self, at: datetime) -> float:
        """Per cent of the strip's width."""
        return round(100 * (at - self.start).total_seconds() / self._seconds, 3)

    def address(self, key: str, at: datetime) -> str:
        """The address of another window."""
        shown = at.strftime("%Y-%m-%dT%H:%MZ") if key == "hour" else at.astimezone(self.zone).date().isoformat()
        return self._link({"span": key, "at": shown})

    def address_from(self, key: str, start: datetime) -> str:
        """The address of the window that begins with `start`."""
        return self.address(key, start + timedelta(days=6.5) if key == "week" else start)

    def lane(self, name: str, number: int, points: Sequence[Point]) -> Lane:
        """`points` may lie anywhere; those outside of the window are not drawn."""
        groups = _group(points, self.edges)
        most = max((len(group) for group in groups.values()), default=1)
        bars = [self._bar(name, number, index, groups[index], most) for index in sorted(groups)]
        return Lane(name, bars, sum(bar.count for bar in bars))

    def _bar(self, name: str, number: int, index: int, points: list[Point], most: int) -> Bar:
        first, last = self.edges[index], self.edges[index + 1]
        x, width = self.share(first), self.share(last) - self.share(first)
        count = len(points)
        newest = max(point.at for point in points).astimezone(self.zone)
        text = f"{name}: {count} restore point{'s' if count > 1 else ''}, newest {newest:%Y-%m-%d %H:%M:%S}"
        link = self.address_from(self.span.inner, first) if self.span.inner else "#points"
        gap = min(0.15, width / 8)
        return Bar(
            f"bar-{number}-{index}", round(x + gap, 3), round(width - 2 * gap, 3), count, text, link,
            _parts(points, most),
        )  # fmt: skip

    def ticks(self) -> list[tuple[float, str]]:
        """At most `LABELS_MAX` labels, at begins of bars; whole days where a week is shown."""
        begins = self.edges[:-1]
        if self.span.key == "week":
            begins = [at for at in begins if at.astimezone(self.zone).hour < 3]
        step = -(-len(begins) // LABELS_MAX)
        return [(self.share(at), at.astimezone(self.zone).strftime(self.span.tick)) for at in begins[::step]]

    def title(self) -> str:
        """The window in words."""
        first = self.start.astimezone(self.zone)
        last = (self.end - timedelta(seconds=1)).astimezone(self.zone)
        return {
            "hour": f"{first:%Y-%m-%d %H:%M} to {last:%H:%M}",
            "day": f"{first:%A, %Y-%m-%d}",
            "week": f"{first:%Y-%m-%d} to {last:%Y-%m-%d}",
            "month": f"{first:%B %Y}",
            "year": f"{first:%Y}",
        }[self.span.key]


def calendar(
    strip: Strip, at: datetime, here: Sequence[Point], elsewhere: Sequence[Point], today: date
) -> tuple[str, list[list[Day]]]:
    """The month that holds `at`: its name and its weeks from Monday."""
    zone = strip.zone
    first = at.astimezone(zone).date().replace(day=1)
    after = _next_month(first)
    local = Counter(point.at.astimezone(zone).date() for point in here if not point.gone)
    remote = Counter(point.at.astimezone(zone).date() for point in elsewhere)
    cells = [Day()] * first.weekday()
    for number in range((after - first).days):
        day = first + timedelta(days=number)
        begin = local_midnight(day, zone)
        count, copies = local[day], remote[day]
        cells.append(
            Day(
                day.day, count, copies, strip.address("day", begin) if count or copies else "", day == today,
                strip.start <= begin < strip.end,
                f"{day:%A, %Y-%m-%d}: {count} here, {copies} on other sites",
            )
        )  # fmt: skip
    cells += [Day()] * (-len(cells) % 7)
    return f"{first:%B %Y}", [cells[row : row + 7] for row in range(0, len(cells), 7)]


@dataclass(frozen=True)
class Look:
    """What the address asks for, checked: a span around a moment in a zone. `oldest` and `newest` of all points."""

    span: Span
    moment: datetime
    zone: tzinfo
    oldest: datetime
    newest: datetime

    @property
    def needed(self) -> tuple[datetime, datetime]:
        """From when to when points are drawn: the window, and the month of the calendar."""
        windows = [window(self.span, self.moment, self.zone), window(SPANS["month"], self.moment, self.zone)]
        return min(start for start, _ in windows), max(end for _, end in windows)


def look(*, span: str, at: str, oldest: datetime, newest: datetime, zone: tzinfo) -> Look:
    """`span` and `at` as the address has them; what means nothing shows the newest point."""
    return Look(SPANS.get(span, SPANS[DEFAULT_SPAN]), anchor_of(at, newest, zone), zone, oldest, newest)


def timeline(
    wanted: Look, *, here: Sequence[Point], elsewhere: dict[str, list[Point]], now: datetime, params: dict[str, str]
) -> Timeline:
    """`here`: points of this site; `elsewhere`: by name of site; both at least those of `wanted.needed`."""
    every = [*here, *(point for points in elsewhere.values() for point in points)]
    chosen, moment, zone = wanted.span, wanted.moment, wanted.zone

    def link(changes: dict[str, str]) -> str:
        return "?" + urlencode({**params, **changes})

    strip = Strip(chosen, moment, zone, link)
    lanes = [strip.lane("This site", 0, here)]
    for number, name in enumerate(sorted(elsewhere), 1):
        lanes.append(strip.lane(name, number, elsewhere[name]))
    shown = Counter(point.layer for point in every if strip.start <= point.at < strip.end)
    month, weeks = calendar(
        strip, moment, here, [p for points in elsewhere.values() for p in points], now.astimezone(zone).date()
    )
    return Timeline(
        span=chosen, start=strip.start, end=strip.end, title=strip.title(), lanes=lanes, ticks=strip.ticks(),
        legend=[(layer, words, shown[layer]) for layer, words in LAYERS.items() if shown[layer]],
        month=month, weeks=weeks,
        earlier=strip.address(chosen.key, strip.start - timedelta(seconds=1)) if wanted.oldest < strip.start else None,
        later=strip.address_from(chosen.key, strip.end) if wanted.newest >= strip.end else None,
        newest=strip.address(chosen.key, wanted.newest),
        spans=[(key, one.label, strip.address(key, moment)) for key, one in SPANS.items()],
    )  # fmt: skip
