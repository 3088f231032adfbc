# SPDX-License-Identifier: Apache-2.0
"""The life of a task row: queued, running with a heartbeat, finished. Every change is a conditional UPDATE."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from prism.core.actor import Actor
from prism.core.choices import TaskState
from prism.core.exceptions import Conflict, Refused
from prism.core.models import STALLED_AFTER, Task
from stargate.errors import StaleTerm, StargateError, Unavailable

OPEN = (TaskState.QUEUED, TaskState.RUNNING)
PASSING = (Unavailable, StaleTerm)
"""The engine is away for a moment, or a new leader took over: no answer to the order, so it is no failure either."""


class NotYet(Exception):
    """Raised by the body of a task that waits for something: the row stays running, the task is sent again soon."""


def create(
    kind: str,
    *,
    actor: Actor,
    object_type: str = "",
    object_name: str = "",
    object_id: Any = "",
    arguments: dict[str, Any] | None = None,
    idempotency_key: str | None = None,
    parent: Task | None = None,
) -> Task:
    """A queued task. The same `idempotency_key` gives the first task again; for another order it is a Conflict."""
    values: dict[str, Any] = {
        "kind": kind,
        "actor": actor.label,
        "object_type": object_type,
        "object_name": object_name,
        "object_id": str(object_id),
        "arguments": arguments or {},
        "parent": parent,
    }
    if not idempotency_key:
        return Task.objects.create(**values)
    task, created = Task.objects.get_or_create(idempotency_key=idempotency_key[:255], defaults=values)
    if not created and (task.kind, task.object_id) != (kind, str(object_id)):
        raise Conflict(
            "idempotency_key_reused",
            f"This idempotency key belongs to another order ({task}).",
            "Send a new key with a new order.",
        )
    return task


def find_by_key(idempotency_key: str | None) -> Task | None:
    """The task that was made for this key; None without a key or before the first order with it."""
    if not idempotency_key:
        return None
    return Task.objects.filter(idempotency_key=idempotency_key[:255]).first()


def start(task_uuid: uuid.UUID | str, *, baton: int | None = None) -> Task | None:
    """Claim a queued or stalled task; None when it is finished, unknown, or another worker is alive on it.

    `baton` is the `attempts` that a waiting run handed on: whoever brings it may go on at once, and only once.
    """
    now = timezone.now()
    free = Q(state=TaskState.QUEUED) | Q(state=TaskState.RUNNING, heartbeat_at__lt=now - STALLED_AFTER)
    if baton is not None:
        free = Q(state=TaskState.RUNNING, attempts=baton)
    changed = Task.objects.filter(free, pk=task_uuid).update(
        state=TaskState.RUNNING,
        started_at=Coalesce("started_at", Value(now)),
        heartbeat_at=now,
        attempts=F("attempts") + 1,
    )
    return Task.objects.get(pk=task_uuid) if changed else None


def progress(
    task: Task,
    *,
    phase: str | None = None,
    done_bytes: int | None = None,
    total_bytes: int | None = None,
    message: str | None = None,
) -> None:
    """Heartbeat, and whatever is given. The rate is that since the last report. A finished task stays as it is."""
    now = timezone.now()
    values: dict[str, Any] = {"heartbeat_at": now}
    if phase is not None:
        values["phase"] = phase
    if message is not None:
        values["message"] = message
    if total_bytes is not None:
        values["total_bytes"] = total_bytes
    if done_bytes is not None:
        values["done_bytes"] = done_bytes
        seconds = (now - task.heartbeat_at).total_seconds() if task.heartbeat_at else 0.0
        if seconds > 0 and done_bytes > task.done_bytes:
            values["rate"] = int((done_bytes - task.done_bytes) / seconds)
    Task.objects.filter(pk=task.pk, state__in=OPEN).update(**values)
    for name, value in values.items():
        setattr(task, name, value)


def heartbeat(task: Task) -> None:
    """Say that the worker lives."""
    progress(task)


def succeed(task: Task, *, message: str = "", result: dict[str, Any] | None = None) -> None:
    _finish(task, TaskState.SUCCEEDED, message=message or task.message, result=result or task.result, error="")


def fail(task: Task, error: str) -> None:
    """`error` is a sentence for the operator."""
    _finish(task, TaskState.FAILED, error=error)


def cancel(task: Task, *, message: str = "") -> None:
    _finish(task, TaskState.CANCELLED, message=message)


def _finish(task: Task, state: TaskState, **values: Any) -> None:
    now = timezone.now()
    values.update(state=state, finished_at=now, heartbeat_at=now, rate=0)
    if Task.objects.filter(pk=task.pk, state__in=OPEN).update(**values):
        for name, value in values.items():
            setattr(task, name, value)


def stalled() -> QuerySet[Task]:
    """Running tasks whose worker has been silent too long."""
    return Task.objects.filter(state=TaskState.RUNNING, heartbeat_at__lt=timezone.now() - STALLED_AFTER)


def orphan(task: Task) -> None:
    """No worker is on it any more: whoever comes next may claim it. A finished task stays as it is."""
    long_ago = timezone.now() - 2 * STALLED_AFTER
    Task.objects.filter(pk=task.pk, state=TaskState.RUNNING).update(heartbeat_at=long_ago)


@contextmanager
def running(task_uuid: uuid.UUID | str, *, baton: int | None = None) -> Iterator[Task | None]:
    """Claim the task for the body and finish it: succeeded, or failed with the operator's sentence.

    Yields None when there is nothing to do (already done, or somebody else is at it). A refusal or an engine error
    ends in a failed row and is not raised further: it is an answer, not a bug. Anything else is recorded and raised.
    """
    task = start(task_uuid, baton=baton)
    if task is None:
        yield None
        return
    try:
        yield task
    except NotYet as waiting:
        progress(task, message=str(waiting) or None)
    except PASSING as passing:
        # Every task can be repeated: the leader sends it again, with its own term.
        progress(task, message=f"{passing} It is tried again.")
        orphan(task)
    except (Refused, StargateError) as error:
        next_step = getattr(error, "next_step", "")
        fail(task, f"{error} {next_step}".strip())
    except Exception:
        fail(task, "An unexpected error happened; the worker's log has the details.")
        raise
    else:
        task.refresh_from_db()
        if not task.finished:
            succeed(task)


def after_commit(send: Any, *args: Any) -> None:
    """Hand `args` to a Celery task's `delay` once the rows it needs are committed.

    A broker that is down loses nothing: the row stays queued, and the leader sends queued rows again.
    """
    transaction.on_commit(lambda: send(*args), robust=True)
