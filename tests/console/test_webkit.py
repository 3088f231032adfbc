# SPDX-License-Identifier: Apache-2.0
"""Sizes, times and state words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import RequestFactory

from dataprotection.states import Phase
from prism.core.choices import Outcome, Severity, TaskState
from prism.webkit import agents, sizes, states, times
from replication.choices import SiteStatus
from replication.states import ReplicationState


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 30, "1 GiB"), (150 << 20, "150 MiB")],
)
def test_it_writes_sizes_with_their_unit(count: int | None, text: str) -> None:
    assert sizes.size(count) == text


def test_it_writes_rates_as_the_documented_tables_do() -> None:
    assert [sizes.rate(0), sizes.rate(48 << 20), sizes.rate(None)] == ["0 KBps", "48 MBps", "-"]


@pytest.mark.parametrize(
    ("text", "count"),
    [("10 GiB", 10 << 30), ("512m", 512 << 20), ("7", 7), ("1.5 KB", 1536), ("1 XB", None), ("", None)],
)
def test_it_reads_sizes(text: str, count: int | None) -> None:
    assert sizes.parse_size(text) == count


def test_it_writes_times_absolute_and_relative() -> None:
    at = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    zone = times.zone_of(_request("Europe/Berlin"))
    assert times.absolute(at, zone) == "2026-03-29 03:30:00"
    assert times.relative(at, at + timedelta(minutes=5, seconds=3)) == "5 min ago"
    assert times.relative(at, at + timedelta(hours=2, minutes=3, seconds=59)) == "2 h 3 min ago"
    assert times.relative(at, at - timedelta(days=1, hours=1)) == "in 1 d 1 h"
    assert times.relative(at, at) == "just now"


def test_it_does_not_count_seconds_on_a_page_that_renews_itself() -> None:
    at = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert {times.relative(at, at + timedelta(seconds=seconds)) for seconds in range(60)} == {"just now"}
    soon = {times.relative(at, at - timedelta(seconds=seconds)) for seconds in range(2, 60)}
    assert soon == {"in less than a minute"}
    assert {times.relative(at, at + timedelta(seconds=seconds)) for seconds in range(60, 120)} == {"1 min ago"}


@pytest.mark.parametrize("name", ["", "No/Where", "../../etc/passwd", "/etc/localtime", "x" * 100, "%00"])
def test_it_falls_back_to_utc_for_a_zone_that_is_none(name: str) -> None:
    assert times.zone_of(_request(name)) is UTC


def _request(zone: str) -> object:
    request = RequestFactory().get("/")
    request.COOKIES[times.ZONE_COOKIE] = zone
    return request


@pytest.mark.parametrize(
    "word", [*Phase, *ReplicationState, *TaskState.values, *Severity.values, *Outcome.values, *SiteStatus.values]
)
def test_it_has_a_badge_for_every_state_word(word: str) -> None:
    assert str(word).lower() in states._BADGES


def test_it_calls_a_task_as_the_buttons_do() -> None:
    assert states.task_words("domain.migrate") == "Migrate"
    assert states.task_words("something.new") == "something.new"


@pytest.mark.parametrize(
    ("agent", "text"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
         "Chrome on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0",
         "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on macOS"),
        ("curl/8.5.0", "curl/8.5.0"),
        ("x" * 200, "x" * 40),
        ("", "unknown"),
    ],
)  # fmt: skip
def test_it_says_which_browser_is_signed_in(agent: str, text: str) -> None:
    assert agents.in_words(agent) == text
