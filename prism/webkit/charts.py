# SPDX-License-Identifier: Apache-2.0
"""Charts drawn on the server: axes with units and zone, the last and the highest value in words, a table twin.

Nothing is interpolated: a column of the chart shows what was measured in it, a column without a measurement stays
empty, and a line is broken there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.http import HttpRequest, HttpResponse
from django.utils.http import urlencode

from prism.webkit.exports import FORMATS, as_file
from prism.webkit.scales import SPANS, Unit, Window
from prism.webkit.times import absolute

WIDTH, HEIGHT = 1000, 100
"""Of the drawing inside the axes; the page stretches it."""

Points = Sequence[tuple[datetime, int]]


@dataclass(frozen=True)
class Mark:
    """A line of the grid and its words: `at` in per cent from the left or from the top."""

    at: str
    text: str


@dataclass(frozen=True)
class Row:
    """A line of the table twin: `at` for people, `iso` and `values` as they are, `texts` with units."""

    at: str
    iso: str
    values: list[int | None]
    texts: list[str]


@dataclass(frozen=True)
class Chart:
    """What the template shows. `paths`: class of the stroke or fill, SVG path data. No `lines`: nothing to draw."""

    key: str
    title: str
    note: str
    zone: str
    last: str = ""
    most: str = ""
    lines: list[Mark] = field(default_factory=list)
    ticks: list[Mark] = field(default_factory=list)
    paths: list[tuple[str, str]] = field(default_factory=list)
    dots: list[tuple[str, str]] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """The picture in a sentence, for who does not see it."""
        return f"{self.title}. Last {self.last}. Highest {self.most}. The figures stand in the table below."


@dataclass(frozen=True)
class Line:
    """One series of a chart: `css` names its colour. `held`: drawn as a line, else as columns from the floor."""

    name: str
    css: str
    points: Points
    held: bool = True


def in_columns(points: Points, window: Window, gather: Callable[[list[int]], int]) -> list[tuple[datetime, int]]:
    """What was measured in each column of the window, as one number; a column without a measurement is left out."""
    found: dict[datetime, list[int]] = {}
    for at, value in points:
        start = window.start + (at - window.start) // window.column * window.column
        if window.start <= start < window.end:
            found.setdefault(start, []).append(value)
    return [(at, gather(values)) for at, values in sorted(found.items())]


class Frame:
    """Axes of one window and unit, high enough for `most`, and paths in them."""

    def __init__(self, window: Window, unit: Unit, most: int) -> None:
        self.window = window
        self.unit = unit
        self.values = unit.lines(most)

    def x(self, at: datetime) -> float:
        return round(min(1.0, max(0.0, self.window.place(at))) * WIDTH, 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - value / self.values[-1] * HEIGHT, 1)

    def lines(self) -> list[Mark]:
        """From the bottom to the top, 0 first."""
        return [Mark(f"{self.y(value):g}", self.unit.text(value)) for value in self.values]

    def ticks(self) -> list[Mark]:
        """Those at the very edges have no room for their words."""
        return [Mark(f"{place * 100:.2f}", text) for place, text in self.window.ticks() if 0.02 < place < 0.98]

    def held(self, points: Points, step: timedelta) -> str:
        """Each value over its column; joined only to a neighbour that was measured."""
        path, before = [], None
        for at, value in points:
            path.append(f"{'L' if at == before else 'M'}{self.x(at):g} {self.y(value):g}H{self.x(at + step):g}")
            before = at + step
        return "".join(path)

    def columns(self, points: Points, step: timedelta) -> str:
        """A bar for each value, from the floor."""
        bars = []
        for at, value in points:
            left, right = self.x(at), self.x(at + step)
            bars.append(f"M{left:g} {HEIGHT}V{self.y(value):g}H{max(left + 1, right - 1):g}V{HEIGHT}Z")
        return "".join(bars)

    def dots(self, points: Points) -> list[tuple[str, str]]:
        """Places in per cent from the left and from the top, a mark for each value."""
        return [(f"{self.x(at) / WIDTH * 100:g}", f"{self.y(value):g}") for at, value in points]


def moment(at: datetime, window: Window) -> str:
    """As the axis and the table write it."""
    return absolute(at, window.zone)[:16]


def row(at: datetime, window: Window, unit: Unit, values: list[int | None]) -> Row:
    """A line of the table twin."""
    texts = ["-" if value is None else unit.text(value) for value in values]
    return Row(moment(at, window), at.astimezone(UTC).isoformat(timespec="seconds"), values, texts)


def extremes(points: Points, window: Window, unit: Unit) -> tuple[str, str]:
    """The last and the highest value in words."""
    last, most = points[-1], max(points, key=lambda point: point[1])
    return tuple(f"{unit.text(value)} at {moment(at, window)}" for at, value in (last, most))  # type: ignore[return-value]


def spans(window: Window, params: Mapping[str, str]) -> list[tuple[str, str, bool]]:
    """Words and link of each length that can be shown, and whether it is shown now; `params` stay in the address."""
    return [(words, "?" + urlencode({**params, "span": key}), key == window.key) for key, (words, *_) in SPANS.items()]


def chart_file(request: HttpRequest, drawn: Sequence[Chart], *, name: str) -> HttpResponse | None:
    """The figures of the chart that the address names, when it asks for a file (`chart=...&export=csv`); else None."""
    found = next((chart for chart in drawn if chart.key == request.GET.get("chart")), None)
    wanted = request.GET.get("export", "")
    if found is None or wanted not in FORMATS:
        return None
    rows = [{"at": row.iso, **dict(zip(found.columns, row.values, strict=True))} for row in reversed(found.rows)]
    return as_file(["at", *found.columns], rows, wanted, name=f"{name}-{found.key}")


def stepped(key: str, title: str, unit: Unit, window: Window, lines: Sequence[Line], *, note: str) -> Chart:
    """A chart of series whose points are columns of the window (see `in_columns`); the first one is the subject."""
    shown = [line for line in lines if line.points]
    if not shown or not lines[0].points:
        return Chart(key, title, note, window.zone_text)
    frame = Frame(window, unit, max(value for line in shown for _, value in line.points))
    by_time: dict[datetime, list[int | None]] = {}
    for place, line in enumerate(lines):
        for at, value in line.points:
            by_time.setdefault(at, [None] * len(lines))[place] = value
    paths = []
    for line in shown:
        draw = frame.held if line.held else frame.columns
        paths.append((f"{'line' if line.held else 'bars'} {line.css}", draw(line.points, window.column)))
    last, most = extremes(lines[0].points, window, unit)
    return Chart(
        key, title, note, window.zone_text, last, most, frame.lines(), frame.ticks(), paths, [],
        [(line.css, line.name) for line in lines] if len(lines) > 1 else [],
        [f"{line.name} ({unit.column})" for line in lines], [line.name for line in lines],
        [row(at, window, unit, values) for at, values in sorted(by_time.items(), reverse=True)],
    )  # fmt: skip
