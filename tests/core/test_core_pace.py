# SPDX-License-Identifier: Apache-2.0
"""Rate and time left: only from samples, only with a known total, in words that are no more exact than they can be."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from prism.core.pace import SAMPLES_MAX, WINDOW_SECONDS, Sample, about, measured, pace_of, sampled


def _taken(*told: tuple[float, int]) -> list[Sample]:
    samples: list[Sample] = []
    for at, done in told:
        samples = sampled(samples, at, done)
    return samples


def test_it_measures_nothing_from_one_sample() -> None:
    found = pace_of(_taken((0, 0)), done_bytes=0, total_bytes=100, stalled_since=None, waits_for="")
    assert (found.rate, found.seconds_left, found.measuring, found.time_left) == (None, None, True, "measuring…")


def test_it_measures_over_the_window_and_not_before_it() -> None:
    samples = _taken(*((second, 1000 * second) for second in range(60)), *((60 + n, 59_000) for n in range(10)))
    assert samples[-1] == (69, 59_000)
    assert WINDOW_SECONDS - 1 <= samples[-1][0] - samples[0][0] <= WINDOW_SECONDS
    assert measured(samples) == int((59_000 - 1000 * samples[0][0]) / (69 - samples[0][0]))


def test_it_keeps_few_samples_however_often_it_is_told() -> None:
    samples = _taken(*((n / 100, n) for n in range(10_000)))
    assert len(samples) <= SAMPLES_MAX
    assert measured(samples) == pytest.approx(100, abs=1)


def test_it_begins_anew_when_the_work_does_or_the_clock_was_set_back() -> None:
    assert _taken((0, 0), (5, 50), (6, 10)) == [(6, 10)]
    assert _taken((100, 0), (50, 10)) == [(50, 10)]


def test_it_invents_no_time_left() -> None:
    moving = _taken((0, 0), (10, 1000))
    known = pace_of(moving, done_bytes=1000, total_bytes=2000, stalled_since=None, waits_for="")
    assert (known.rate, known.seconds_left, known.time_left) == (100, 10, "less than a minute")
    whole_unknown = pace_of(moving, done_bytes=1000, total_bytes=None, stalled_since=None, waits_for="")
    assert (whole_unknown.rate, whole_unknown.time_left) == (100, "unknown")
    standing = pace_of(_taken((0, 7), (10, 7)), done_bytes=7, total_bytes=9, stalled_since=None, waits_for="")
    assert (standing.rate, standing.time_left) == (0, "unknown")
    all_there = pace_of(_taken((0, 9)), done_bytes=9, total_bytes=9, stalled_since=None, waits_for="")
    assert (all_there.measuring, all_there.seconds_left) == (False, 0)
    since = datetime(2026, 1, 1, tzinfo=UTC)
    stalled = pace_of(moving, done_bytes=1000, total_bytes=2000, stalled_since=since, waits_for="the link")
    assert (stalled.rate, stalled.time_left, stalled.waits_for) == (None, "unknown", "the link")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "less than a minute"), (59, "less than a minute"), (60, "about 1 min"), (150, "about 3 min"),
        (3540, "about 59 min"), (3600, "about 1 h"), (3700, "about 1 h 10 min"), (86_400, "about 1 d"),
        (200_000, "about 3 d"),
    ],
)  # fmt: skip
def test_it_says_how_long_in_words(seconds: int, words: str) -> None:
    assert about(seconds) == words
