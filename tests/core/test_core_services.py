# SPDX-License-Identifier: Apache-2.0
"""Audit, tasks, tokens, alerts, counter."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from prism.core.actor import Actor
from prism.core.choices import TaskState
from prism.core.exceptions import Conflict, InvalidInput
from prism.core.models import Alert, ApiToken, AuditRow, Event, Task
from prism.core.services import alerts, audit, events, tasks, tokens, users
from prism.core.services.alert_kinds import KINDS
from prism.core.services.counter import next_local_id
from stargate.errors import StaleTerm, StargateError, Unavailable

ACTOR = Actor(label="maria", source="api", address="127.0.0.9")

pytestmark = pytest.mark.django_db


def test_it_records_success_refusal_and_failure() -> None:
    with audit.order("a", actor=ACTOR):
        pass

    def fail(verb: str, error: Exception) -> None:
        with audit.order(verb, actor=ACTOR) as detail:
            detail["why"] = verb
            events.add("half_done", "This must be rolled back.")
            raise error

    for verb, error in (("b", Conflict("busy", "Busy.")), ("c", RuntimeError("x"))):
        with pytest.raises(type(error)):
            fail(verb, error)
    rows = {row.verb: row for row in AuditRow.objects.all()}
    assert [rows[verb].outcome for verb in "abc"] == ["ok", "refused", "failed"]
    assert (rows["b"].address, rows["b"].detail["code"], rows["b"].detail["why"]) == ("127.0.0.9", "busy", "b")
    assert not Event.objects.exists()


def test_it_claims_a_task_once_and_finishes_it() -> None:
    task = tasks.create("demo", actor=ACTOR)
    with tasks.running(task.pk) as mine:
        assert mine is not None
        assert tasks.start(task.pk) is None
        tasks.progress(mine, phase="COPY", done_bytes=5, total_bytes=10)
        assert Task.objects.get().percent == 50
    assert Task.objects.get().state == TaskState.SUCCEEDED
    with tasks.running(task.pk) as again:
        assert again is None


def test_it_records_a_refusal_as_a_failed_task_and_raises_a_bug() -> None:
    refused, broken = tasks.create("demo", actor=ACTOR), tasks.create("demo", actor=ACTOR)
    with tasks.running(refused.pk):
        raise Conflict("busy", "Busy.", "Wait.")
    with pytest.raises(RuntimeError), tasks.running(broken.pk):
        raise RuntimeError("x")
    assert Task.objects.get(pk=refused.pk).error == "Busy. Wait."
    assert Task.objects.get(pk=broken.pk).state == TaskState.FAILED


def test_it_hands_the_baton_of_a_waiting_task_on_once() -> None:
    task = tasks.create("demo", actor=ACTOR)
    with tasks.running(task.pk) as mine:
        assert mine is not None
        raise tasks.NotYet("Waiting.")
    assert Task.objects.get().message == "Waiting."
    assert tasks.start(task.pk) is None
    assert tasks.start(task.pk, baton=mine.attempts) is not None
    assert tasks.start(task.pk, baton=mine.attempts) is None


@pytest.mark.parametrize("error", [Unavailable("The engine is away."), StaleTerm("A new leader.")])
def test_it_tries_again_when_the_engine_is_away_or_the_leader_changed(error: StargateError) -> None:
    task = tasks.create("demo", actor=ACTOR)
    with tasks.running(task.pk):
        raise error
    found = Task.objects.get()
    assert (found.state, found.error) == (TaskState.RUNNING, "")
    assert str(error) in found.message
    assert tasks.start(task.pk) is not None


def test_it_takes_a_stalled_task_over() -> None:
    task = tasks.create("demo", actor=ACTOR)
    tasks.start(task.pk)
    Task.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=61))
    assert Task.objects.get().stalled
    assert list(tasks.stalled()) == [task]
    taken = tasks.start(task.pk)
    assert taken is not None
    assert taken.attempts == 2


def test_it_calls_a_task_stalled_that_lives_and_does_not_move() -> None:
    task = tasks.create("demo", actor=ACTOR)
    started = tasks.start(task.pk)
    assert started is not None
    tasks.progress(started, phase="SYNC", done_bytes=5, total_bytes=10)
    assert not Task.objects.get().stalled
    long_ago = timezone.now() - timedelta(seconds=31)
    Task.objects.update(moved_at=long_ago)
    started.refresh_from_db()
    tasks.progress(started, done_bytes=5, total_bytes=10, waits_for="the link")
    found = Task.objects.get().pace
    assert (found.stalled_since, found.waits_for, found.rate) == (long_ago, "the link", None)
    tasks.progress(started, done_bytes=6)
    assert (Task.objects.get().stalled, Task.objects.get().waits_for) == (False, "")


def test_it_refuses_a_key_for_another_order() -> None:
    first = tasks.create("demo", actor=ACTOR, object_id=1, idempotency_key="k")
    assert tasks.create("demo", actor=ACTOR, object_id=1, idempotency_key="k") == first
    with pytest.raises(Conflict):
        tasks.create("demo", actor=ACTOR, object_id=2, idempotency_key="k")


def test_it_keeps_only_the_hash_of_a_token() -> None:
    user = User.objects.create(username="maria")
    token, text = tokens.create(user=user, name="ci", actor=ACTOR)
    assert text not in str(ApiToken.objects.values().get())
    assert text.startswith(token.prefix)
    found = tokens.verify(text)
    assert found is not None
    assert found.user == user
    assert tokens.verify(text + "x") is None
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert tokens.verify(text) is None


def test_it_lets_no_disabled_user_in() -> None:
    user = User.objects.create(username="maria")
    _, text = tokens.create(user=user, name="ci", actor=ACTOR)
    User.objects.update(is_active=False)
    assert tokens.verify(text) is None


def test_it_raises_an_alert_once_and_counts_it() -> None:
    for _ in range(3):
        alerts.raise_alert("snapshot_failure", "It failed.", object_type="pd", object_id=1)
    alert = Alert.objects.get()
    assert (alert.occurrences, alert.severity) == (3, "critical")
    alerts.acknowledge(alert, actor=ACTOR)
    assert alerts.clear("snapshot_failure", object_type="pd", object_id=1)
    alerts.raise_alert("snapshot_failure", "Again.", object_type="pd", object_id=1)
    assert Alert.objects.count() == 2


def test_it_says_what_to_do_in_every_alert() -> None:
    for kind in KINDS.values():
        assert kind.cause
        assert kind.next_step
        assert len(kind.title) <= 200


def test_it_makes_the_admin_once_and_refuses_short_passwords() -> None:
    user, password = users.ensure_admin(actor=ACTOR)
    assert password is not None
    assert user.check_password(password)
    assert users.ensure_admin(actor=ACTOR) == (user, None)
    with pytest.raises(InvalidInput):
        users.set_password(user, password="short", actor=ACTOR)


@pytest.mark.django_db(transaction=True)
def test_it_gives_no_number_twice_to_eight_at_once() -> None:
    found: list[int] = []

    def work() -> None:
        found.extend(next_local_id() for _ in range(10))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 81))
