# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is: newest first, one in flight, nothing twice, nothing lost."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from django.db import connection
from django.utils import timezone
from replication_kit import ACTOR, make_site, manifest

from prism.core.exceptions import Conflict, IllegalTransition
from prism.core.models import Alert, AuditRow, Task
from prism.core.services import tasks
from replication.cerebro import registry, takeover
from replication.models import RemoteSite, Replication
from replication.services import queue, replications
from replication.services.transitions import change
from replication.states import ReplicationEvent as E
from replication.states import ReplicationState as S

pytestmark = pytest.mark.django_db

DOMAIN = uuid.uuid4()
HOUR = 3600


@pytest.fixture
def site(tmp_path: Path, engine: Any, sent: list[str]) -> RemoteSite:
    return make_site(tmp_path)


def order(site: RemoteSite, number: int, **changes: Any) -> Replication:
    described = manifest(number, domain=DOMAIN)
    values = {"retention_seconds": HOUR, "hidden_base": False, **changes}
    return replications.request(
        snapshot_uuid=described["snapshot"]["uuid"], manifest=described, site=site, actor=ACTOR, **values
    )


def claim(site: RemoteSite, after: timedelta = timedelta(0)) -> Replication | None:
    return queue.claim_next(site.pk, DOMAIN, now=timezone.now() + after, term=1)


def state_of(row: Replication) -> str:
    row.refresh_from_db()
    return row.state


def test_it_sends_the_newest_and_skips_the_older_with_the_alert(site: RemoteSite) -> None:
    old, newest, middle = order(site, 1), order(site, 3), order(site, 2)
    assert claim(site) == newest
    assert [state_of(row) for row in (old, newest, middle)] == [S.SKIPPED, S.RUNNING, S.SKIPPED]
    assert Alert.objects.get().kind == "replication_skipped"


def test_it_has_one_snapshot_of_a_domain_in_flight_per_site(site: RemoteSite, tmp_path: Path) -> None:
    order(site, 1)
    assert claim(site) is not None
    waiting = order(site, 2)
    assert claim(site) is None
    assert state_of(waiting) == S.PENDING
    other = make_site(tmp_path, "other")
    order(other, 2)
    assert claim(other) is not None


def test_it_does_nothing_at_a_second_delivery(site: RemoteSite) -> None:
    row = order(site, 1)
    assert claim(site) == row
    row.refresh_from_db()
    owner = row.owner
    assert claim(site) is None
    row.refresh_from_db()
    assert (row.owner, row.attempts, row.transitions.count()) == (owner, 1, 1)


def test_it_expires_in_the_queue_with_the_alert(site: RemoteSite) -> None:
    row = order(site, 1)
    assert claim(site, timedelta(seconds=HOUR)) is None
    assert state_of(row) == S.EXPIRED
    assert Alert.objects.get().kind == "replication_expired"


def test_it_waits_for_its_start_and_is_then_sent_by_the_sweep(site: RemoteSite, sent: list[str]) -> None:
    order(site, 1, start_at=timezone.now() + timedelta(minutes=5))
    assert claim(site) is None
    assert queue.sweep(timezone.now()) == 0
    assert queue.sweep(timezone.now() + timedelta(minutes=5)) == 1


def test_it_is_taken_from_a_silent_worker_and_sent_again(site: RemoteSite) -> None:
    row = order(site, 1)
    claim(site)
    queue.sweep(timezone.now() + timedelta(seconds=59))
    assert state_of(row) == S.RUNNING
    assert queue.sweep(timezone.now() + timedelta(seconds=61)) == 1
    assert state_of(row) == S.PENDING
    assert (row.owner, row.transitions.last().event) == ("", E.WORKER_LOST)


def test_it_keeps_a_replaced_worker_from_finishing(site: RemoteSite) -> None:
    row = order(site, 1)
    lost = claim(site)
    assert lost is not None
    queue.sweep(timezone.now() + timedelta(seconds=61))
    heir = claim(site, timedelta(seconds=62))
    assert heir is not None
    assert not change(row, E.SUCCEED, actor="worker", only_owner=lost.owner)
    assert change(row, E.SUCCEED, actor="worker", only_owner=heir.owner)


def test_it_returns_the_same_row_for_the_same_order(site: RemoteSite) -> None:
    described = manifest(1, domain=DOMAIN)
    arguments = {"retention_seconds": HOUR, "hidden_base": True, "actor": ACTOR, "site": site, "manifest": described}
    first = replications.request(snapshot_uuid=described["snapshot"]["uuid"], **arguments)
    again = replications.request(snapshot_uuid=described["snapshot"]["uuid"], **arguments)
    assert (first, first.hidden_base, Task.objects.count()) == (again, True, 1)
    replications.abort(first, actor=ACTOR)
    assert replications.request(snapshot_uuid=described["snapshot"]["uuid"], **arguments) != first


def test_it_pauses_resumes_and_aborts_as_the_table_says(site: RemoteSite, sent: list[str], engine: Any) -> None:
    row = order(site, 1)
    claim(site)
    replications.pause(row, actor=ACTOR)
    assert (state_of(row), engine.cancelled, claim(site)) == (S.PAUSED, [(str(row.uuid), None)], None)
    with pytest.raises(IllegalTransition):
        replications.pause(row, actor=ACTOR)
    replications.resume(row, actor=ACTOR)
    assert claim(site) == row
    replications.abort(row, actor=ACTOR)
    assert (state_of(row), Task.objects.get().state) == (S.ABORTED, "cancelled")
    with pytest.raises(IllegalTransition):
        replications.resume(row, actor=ACTOR)
    assert list(AuditRow.objects.filter(outcome="refused").values_list("verb", flat=True).order_by("id")) == [
        "replication.pause",
        "replication.resume",
    ]


def test_it_refuses_a_site_that_is_not_paired() -> None:
    site = RemoteSite.objects.create(name="later", addresses=[])
    with pytest.raises(Conflict, match="not paired"):
        order(site, 1)
    assert not Replication.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_it_is_claimed_by_one_of_many_workers(site: RemoteSite) -> None:
    for number in range(4):
        order(site, number)
    found: list[Replication | None] = []
    barrier = threading.Barrier(6)

    def work() -> None:
        barrier.wait()
        found.append(claim(site))
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len([row for row in found if row is not None]) == 1
    assert Replication.objects.filter(state=S.RUNNING).count() == 1


def test_it_sends_through_the_broker_of_the_site(settings: Any) -> None:
    from celery import current_app

    assert current_app.main == "prism"
    assert current_app.conf.broker_url == settings.CELERY_BROKER_URL


def test_it_takes_over_what_a_dead_worker_left(site: RemoteSite, sent: list[str], monkeypatch: Any) -> None:
    """The only worker of a site starts: running rows go back to their queue, running tasks may be claimed at once."""
    row = order(site, 1)
    assert claim(site) == row
    task = tasks.create("demo", actor=ACTOR)
    tasks.start(task.pk)
    again: list[str] = []
    monkeypatch.setitem(registry.task_senders, "demo", again.append)
    monkeypatch.setattr(takeover, "connections", Mock())  # the test's transaction lives on its connection
    sent.clear()
    takeover.take_over()
    assert state_of(row) == S.PENDING
    assert row.owner == ""
    assert again == [str(task.pk)]
    assert tasks.start(task.pk) is not None
    assert tasks.start(task.pk) is None
