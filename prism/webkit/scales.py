# SPDX-License-Identifier: Apache-2.0
"""The two axes of a chart: round numbers of a unit, and round moments of a zone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from prism.webkit import sizes, times

LINES_MAX = 4
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_SPAN_STEPS = (
    1, 5, 10, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR,
    4 * _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY, 28 * _DAY,
)  # fmt: skip
_DECIMAL = (1, 2, 5)


@dataclass(frozen=True)
class Unit:
    """How numbers of one kind are written, and which of them are round. `column`: the unit's name in a table."""

    column: str
    text: Callable[[int], str]
    steps: Sequence[int]

    def lines(self, most: int) -> list[int]:
        """Values of the grid lines from 0 to the first round one that is not below `most`."""
        longest = self.steps[-1] * max(1, -(-most // (LINES_MAX * self.steps[-1])))
        step = next((step for step in self.steps if step * LINES_MAX >= most), longest)
        count = max(1, -(-most // step))
        return [step * number for number in range(count + 1)]


def _milliseconds(microseconds: int) -> str:
    value = microseconds / 1000
    return f"{value:.0f} ms" if value >= 100 or value == int(value) else f"{value:.2g} ms"


_BYTE_STEPS = [1 << shift for shift in range(60)]
BYTES = Unit("bytes", sizes.size, _BYTE_STEPS)
RATE = Unit("bytes per second", sizes.rate, [step for step in _BYTE_STEPS if step >= 1024])
SECONDS = Unit("seconds", lambda value: "0" if not value else times.span(value), _SPAN_STEPS)
MICROSECONDS = Unit("microseconds", _milliseconds, [step * 10**power for power in range(2, 10) for step in _DECIMAL])


@dataclass(frozen=True)
class Window:
    """The time a chart shows: [start, end). `column`: what one column of it stands for."""

    key: str
    start: datetime
    end: datetime
    column: timedelta
    tick: timedelta
    zone: tzinfo

    @property
    def zone_text(self) -> str:
        """`Europe/Berlin (CET)`."""
        name = "UTC" if self.zone is UTC else str(getattr(self.zone, "key", "UTC"))
        short = self.end.astimezone(self.zone).tzname() or name
        return name if short == name else f"{name} ({short})"

    def place(self, at: datetime) -> float:
        """0 at the start, 1 at the end."""
        return (at - self.start) / (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Place and words of the round moments inside; midnight says the day."""
        at = self.start.astimezone(self.zone).replace(hour=0, minute=0, second=0, microsecond=0)
        if self.tick >= timedelta(days=7):
            at -= timedelta(days=at.weekday())
        found = []
        while (moment := at.astimezone(UTC)) < self.end:
            if moment >= self.start:
                found.append((self.place(moment), f"{at:%m-%d}" if (at.hour, at.minute) == (0, 0) else f"{at:%H:%M}"))
            at += self.tick
        return found


SPANS: dict[str, tuple[str, timedelta, timedelta, timedelta]] = {
    "hour": ("1 h", timedelta(hours=1), timedelta(minutes=1), timedelta(minutes=10)),
    "6h": ("6 h", timedelta(hours=6), timedelta(minutes=5), timedelta(hours=1)),
    "day": ("24 h", timedelta(hours=24), timedelta(minutes=15), timedelta(hours=4)),
    "week": ("7 d", timedelta(days=7), timedelta(hours=2), timedelta(days=1)),
    "month": ("31 d", timedelta(days=31), timedelta(hours=6), timedelta(days=7)),
}
"""Words, length, what one column stands for, distance of the moments on the axis."""


def window(key: str, *, now: datetime, since: datetime | None, zone: tzinfo, longest: str = "month") -> Window:
    """The span that the address names; else the shortest that holds all since `since`, `longest` at most."""
    if key not in SPANS:
        age = now - (since or now)
        fits = [name for name, (_, length, _, _) in SPANS.items() if length >= age]
        key = min([*fits[:1], longest], key=list(SPANS).index)
    _, length, column, tick = SPANS[key]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    end = epoch + ((now - epoch) // column + 1) * column
    return Window(key, end - length, end, column, tick, zone)
