# SPDX-License-Identifier: Apache-2.0
"""The task row that shows a replication to the operator. The replication row decides; this one only follows."""

from __future__ import annotations

from django.db.models import QuerySet
from django.utils import timezone

from prism.core.actor import Actor
from prism.core.choices import TaskState
from prism.core.models import Task
from prism.core.services import tasks
from replication.models import Replication

KIND = "replicate"


def create(row: Replication, *, actor: Actor) -> None:
    """Queue the row for `row`."""
    task = tasks.create(
        KIND,
        actor=actor,
        object_type="replication",
        object_name=f"{row.domain_name} {row.display_id} to {row.site.name}",
        object_id=row.uuid,
        idempotency_key=f"replicate:{row.uuid}",
    )
    Replication.objects.filter(pk=row.pk).update(task_uuid=task.uuid)
    row.task_uuid = task.uuid


def find(row: Replication) -> Task | None:
    """The task of `row`; None when it was pruned, or for an incoming one."""
    return _rows(row).first()


def _rows(row: Replication) -> QuerySet[Task]:
    return Task.objects.filter(pk=row.task_uuid) if row.task_uuid else Task.objects.none()


def started(row: Replication) -> Task | None:
    """A run has begun. None = there is nothing to show it with."""
    now = timezone.now()
    open_rows = _rows(row).filter(state__in=tasks.OPEN)
    changed = open_rows.update(
        state=TaskState.RUNNING,
        started_at=row.started_at or now,
        heartbeat_at=now,
        moved_at=now,
        attempts=row.attempts,
        samples=[],
        waits_for="",
        error="",
        message="",
    )
    return find(row) if changed else None


def waiting(row: Replication, message: str, *, waits_for: str) -> None:
    """Back in the queue, until what it waits for is there."""
    _rows(row).filter(state__in=tasks.OPEN).update(
        state=TaskState.QUEUED, message=message, phase=row.phase, samples=[], waits_for=waits_for[: tasks.WAITS_FOR_MAX]
    )


def waits_for(row: Replication) -> str:
    """What holds it up, "" when it goes or nobody knows."""
    return _rows(row).values_list("waits_for", flat=True).first() or ""


def fail(row: Replication, error: str) -> None:
    task = find(row)
    if task is not None:
        tasks.fail(task, error)


def succeed(row: Replication, message: str) -> None:
    task = find(row)
    if task is not None:
        tasks.succeed(task, message=message)


def cancel(row: Replication, message: str) -> None:
    task = find(row)
    if task is not None:
        tasks.cancel(task, message=message)
