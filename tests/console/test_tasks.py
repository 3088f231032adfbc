# SPDX-License-Identifier: Apache-2.0
"""Tasks as they are shown: the same facts on the page, in the drawer, in the export and in the API."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from prism.core.models import Task
from tests.console.conftest import Rows

FRAGMENT = {"HX-Request": "true", "HX-Target": "drawer-list"}


def _task(**fields: object) -> Task:
    now = timezone.now()
    values = {"kind": "replicate", "actor": "admin", "object_name": "gold", "state": "running", "phase": "SYNC",
              "started_at": now, "heartbeat_at": now, "moved_at": now, "done_bytes": 1 << 20,
              "total_bytes": 10 << 20}  # fmt: skip
    return Task.objects.create(**{**values, **fields})


@pytest.fixture
def three(rows: Rows) -> dict[str, Task]:
    """One that moves, one that is stalled, one that just began."""
    Task.objects.all().delete()
    now, since = time.time(), timezone.now() - timedelta(minutes=5)
    return {
        "moves": _task(samples=[(now - 10, 0), (now, 1 << 20)]),
        "stalled": _task(moved_at=since, waits_for="the link to south"),
        "began": _task(samples=[(now, 0)]),
    }


def test_it_shows_rate_time_left_and_what_a_task_waits_for_everywhere(reader: Client, three: dict[str, Task]) -> None:
    for url in (reverse("console:tasks"), reverse("console:drawer"), reverse("console:home")):
        text = reader.get(url).content.decode()
        assert "102 KBps · about 2 min left" in text, url
        assert "Rate and time left: measuring…" in text, url
        assert "Stalled: nothing has moved since" in text, url
        assert "Waits for the link to south" in text, url


def test_it_says_the_same_in_the_api_and_in_the_export(reader: Client, three: dict[str, Task]) -> None:
    answer = reader.get("/api/v1/tasks/").json()
    found = {row["uuid"]: row for row in answer["results"]}
    moves, stalled, began = (found[str(three[name].pk)] for name in ("moves", "stalled", "began"))
    assert (moves["rate"], moves["seconds_left"], moves["time_left"]) == (104857, 91, "about 2 min")
    assert (began["rate"], began["seconds_left"], began["time_left"]) == (None, None, "measuring…")
    assert (stalled["stalled"], stalled["waits_for"]) == (True, "the link to south")
    assert stalled["stalled_since"] is not None
    assert "samples" not in moves
    exported = {row["uuid"]: row for row in reader.get("/tasks/?export=json").json()}
    for row in (moves, stalled, began):
        assert exported[row["uuid"]]["bytes_per_second"] == row["rate"]
        assert exported[row["uuid"]]["waits_for"] == row["waits_for"]


def test_it_invents_no_share_of_an_unknown_whole(reader: Client, rows: Rows) -> None:
    task = _task(total_bytes=None)
    text = reader.get(reverse("console:task", args=[task.pk])).content.decode()
    assert "1 MiB done, the whole is not known" in text
    assert "<progress" not in text


def test_it_lists_what_runs_before_what_waits_and_what_ended(reader: Client, rows: Rows) -> None:
    Task.objects.all().delete()
    now = timezone.now()
    _task(object_name="ended-first", state="failed", finished_at=now - timedelta(hours=2), error="It broke.")
    _task(object_name="runs")
    _task(object_name="waits", state="queued")
    _task(object_name="ended-last", state="succeeded", finished_at=now)
    text = reader.get(reverse("console:drawer"), headers=FRAGMENT).content.decode()
    places = [text.index(f"</strong> {name}") for name in ("runs", "waits", "ended-last", "ended-first")]
    assert places == sorted(places)
    assert 'data-said="Replicate ended-last: Succeeded"' in text


def test_it_sends_a_part_again_only_when_it_looks_different(reader: Client, rows: Rows) -> None:
    url = reverse("console:drawer")
    first = reader.get(url, headers=FRAGMENT)
    again = reader.get(url, headers={**FRAGMENT, "If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    _task(object_name="new")
    changed = reader.get(url, headers={**FRAGMENT, "If-None-Match": first["ETag"]})
    assert changed.status_code == 200
    assert changed["ETag"] != first["ETag"]
    assert "ETag" not in reader.get(url)


def test_it_asks_few_questions_for_the_drawer_however_many_tasks(
    reader: Client, rows: Rows, django_assert_max_num_queries: Callable[[int], AbstractContextManager[object]]
) -> None:
    for number in range(80):
        _task(object_name=str(number), state="running" if number % 2 else "succeeded", finished_at=timezone.now())
    reader.get(reverse("console:drawer"), headers=FRAGMENT)  # the first request of a session notes it
    with django_assert_max_num_queries(6):
        reader.get(reverse("console:drawer"), headers=FRAGMENT)
