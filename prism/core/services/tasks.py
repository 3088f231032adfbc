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

from prism.core import pace
from prism.core.actor import Actor
from prism.core.choices import TaskState
from prism.core.exceptions import Conflict, Refused
from prism.core.models import STALLED_AFTER, Task
from stargate.errors import StaleTerm, StargateError, Unavailable

OPEN = (TaskState.QUEUED, TaskState.RUNNING)
WAITS_FOR_MAX = 300
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
        **({} if baton is not None else {"moved_at": now, "samples": [], "waits_for": ""}),
    )
    return Task.objects.get(pk=task_uuid) if changed else None


def progress(
    task: Task,
    *,
    phase: str | None = None,
    done_bytes: int | None = None,
    total_bytes: int | None = None,
    message: str | None = None,
    waits_for: str | None = None,
) -> None:
    """Heartbeat, and whatever is given; a sample for the rate with `done_bytes`. A finished task stays as it is.

    `waits_for` stands until the task moves: until its phase or its bytes change.
    """
    now = timezone.now()
    told = {"phase": phase, "message": message, "total_bytes": total_bytes, "done_bytes": done_bytes}
    values: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    new_phase = phase is not None and phase != task.phase
    if new_phase or any(value != getattr(task, name) for name, value in values.items() if name != "message"):
        values.update(moved_at=now, waits_for="")
    elif phase is not None and message and message != task.message:
        values.update(moved_at=now, waits_for="")  # the next piece of the same phase
    if waits_for is not None:
        values["waits_for"] = waits_for[:WAITS_FOR_MAX]
    if done_bytes is not None:
        values["samples"] = pace.sampled([] if new_phase else task.samples, now.timestamp(), done_bytes)
    values["heartbeat_at"] = now
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
    values.update(state=state, finished_at=now, heartbeat_at=now, samples=[], waits_for="")
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
