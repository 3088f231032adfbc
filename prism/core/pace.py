# SPDX-License-Identifier: Apache-2.0
"""How fast a task goes, how long it still takes, and whether it goes at all: one answer for console, API and client.

A rate comes from samples that workers left in the row, at least two of one phase, or there is none. A time left needs
a rate and a known total. Nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

WINDOW_SECONDS = 30.0
"""A rate is that of so many last seconds."""
SAMPLE_EVERY_SECONDS = 1.0
SAMPLES_MAX = 40
STALLED_AFTER = timedelta(seconds=30)
"""A running task whose phase and bytes have not moved for this long is stalled."""

Sample = tuple[float, int]
"""Seconds since the epoch, bytes done."""


@dataclass(frozen=True)
class Pace:
    """`rate` in bytes per second, None while fewer than two samples exist or nothing is counted.

    `stalled_since`: when it last moved; None unless it is stalled. `waits_for`: what holds it up, "" when not known.
    `over`: it has ended, and nothing is left.
    """

    rate: int | None = None
    measuring: bool = False
    seconds_left: int | None = None
    stalled_since: datetime | None = None
    waits_for: str = ""
    over: bool = False

    @property
    def stalled(self) -> bool:
        return self.stalled_since is not None

    @property
    def time_left(self) -> str:
        """In words: `about 3 min`, `measuring…`, `unknown`; empty at the end."""
        if self.over:
            return ""
        if self.measuring:
            return "measuring…"
        return "unknown" if self.seconds_left is None else about(self.seconds_left)


def sampled(samples: Sequence[Sequence[float]], at: float, done_bytes: int) -> list[Sample]:
    """`samples` and one more, oldest first. Fewer bytes than before mean that the work began anew."""
    kept = [(float(when), int(done)) for when, done in samples]
    if kept and (done_bytes < kept[-1][1] or at < kept[-1][0]):
        kept = []
    if len(kept) > 1 and kept[-1][0] - kept[-2][0] < SAMPLE_EVERY_SECONDS:
        kept.pop()  # the newest one stands for its second
    kept.append((at, done_bytes))
    while len(kept) > 2 and (at - kept[1][0] >= WINDOW_SECONDS or len(kept) > SAMPLES_MAX):
        kept.pop(0)
    return kept


def measured(samples: Sequence[Sequence[float]]) -> int | None:
    """Bytes per second between the first and the last sample; None with fewer than two, or within one second."""
    if len(samples) < 2:
        return None
    (first_at, first), (last_at, last) = samples[0], samples[-1]
    seconds = last_at - first_at
    return int((last - first) / seconds) if seconds >= SAMPLE_EVERY_SECONDS else None


def pace_of(
    samples: Sequence[Sequence[float]],
    *,
    done_bytes: int,
    total_bytes: int | None,
    stalled_since: datetime | None,
    waits_for: str,
) -> Pace:
    """Of a running task."""
    counts = bool(total_bytes or done_bytes)
    if stalled_since is not None or not counts:
        return Pace(stalled_since=stalled_since, waits_for=waits_for)
    rate = measured(samples)
    if total_bytes and done_bytes >= total_bytes:
        return Pace(rate, seconds_left=0, waits_for=waits_for)
    left = None
    if rate and total_bytes:
        left = -(-max(0, total_bytes - done_bytes) // rate)
    return Pace(rate, rate is None, left, None, waits_for)


def about(seconds: float) -> str:
    """`less than a minute`, `about 3 min`, `about 2 h 10 min`, `about 3 d`: no more exact than it can be."""
    minutes = -(-int(seconds) // 60)
    if seconds < 60:
        return "less than a minute"
    if minutes < 60:
        return f"about {minutes} min"
    if minutes < 24 * 60:
        hours, rest = divmod(-(-minutes // 10) * 10, 60)
        return f"about {hours} h {rest} min" if rest else f"about {hours} h"
    return f"about {-(-minutes // (24 * 60))} d"
