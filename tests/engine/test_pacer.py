# SPDX-License-Identifier: Apache-2.0
"""Writers are slowed before the log is full: along a slope, at what the drain was seen to do."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import pytest

from stargate.clock import Clock
from stargate.front.engine import PACE_FROM, PACE_STOP, Pacer
from stargate.nbd.exports import HOLD
from stargate.oplog.log import OpLog
from stargate.units import GiB, MiB, TiB


@dataclass
class Log:
    used_bytes: float = 0.0
    cap_bytes: int = 4 * GiB

    def fill(self, part: float) -> None:
        self.used_bytes = part * self.cap_bytes


@dataclass
class Time:
    at: float = 1000.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def pacer(log: Log, time: Time) -> Pacer:
    return Pacer(cast(OpLog, log), cast(Clock, time))


def rate(pacer: Pacer, log: Log, time: Time, fill: float) -> float:
    """Bytes per second that writers get at this fill."""
    log.fill(fill)
    time.at += 100.0
    pacer.wrote(MiB)
    delay = pacer.delay()
    return MiB / delay if delay else float("inf")


def test_it_slows_writers_along_a_slope(pacer: Pacer, log: Log, time: Time) -> None:
    assert rate(pacer, log, time, PACE_FROM) == float("inf")
    fills = [PACE_FROM + 0.01 * step for step in range(1, 25)]
    rates = [rate(pacer, log, time, fill) for fill in fills]
    assert rates == sorted(rates, reverse=True)
    assert all(0.85 < after / before < 1.0 for before, after in pairwise(rates))
    drain = pacer.drain_bytes_per_second
    assert rates[0] > 3.5 * drain
    assert rate(pacer, log, time, (PACE_FROM + PACE_STOP) / 2) == pytest.approx(drain)
    assert 0.2 * drain < rates[-1] < 0.4 * drain
    log.fill(PACE_STOP)
    assert pacer.delay() == HOLD


def test_it_measures_the_drain_while_it_works_without_pause(pacer: Pacer, log: Log, time: Time) -> None:
    log.fill(0.8)
    for window in range(30):
        time.at += 0.5
        pacer.released(window * 64 * MiB)
    assert pacer.drain_bytes_per_second == pytest.approx(128 * MiB, rel=0.01)


def test_it_takes_no_rate_from_the_first_release_after_a_start(pacer: Pacer, log: Log, time: Time) -> None:
    """Positions grow for ever: the first one says nothing about how fast the drain is."""
    log.fill(0.8)
    time.at += 2.0
    pacer.released(5 * TiB)
    assert pacer.drain_bytes_per_second == 64 * MiB


def test_it_does_not_take_a_drain_that_waits_for_guests_for_a_slow_one(pacer: Pacer, log: Log, time: Time) -> None:
    log.fill(0.01)
    for window in range(100):
        time.at += 1.0
        pacer.released(window * 4096)
    log.fill(0.8)
    time.at += 60.0
    pacer.released(64 * MiB)
    assert pacer.drain_bytes_per_second == 64 * MiB


def test_it_holds_writers_of_a_log_that_was_full_at_the_start_before_any_of_them_wrote(pacer: Pacer, log: Log) -> None:
    """A front that starts with a full log has written nothing itself: it must not read writes only to refuse them."""
    log.fill(PACE_STOP)
    assert pacer.delay() == HOLD
    log.fill(PACE_STOP - 0.01)
    assert pacer.delay() == 0.0
    log.fill(1.0)
    assert pacer.delay() == HOLD
    pacer.refuses = lambda: True
    assert pacer.delay() == 0.0, "a full storage refuses: nobody waits for a drain that cannot come"
