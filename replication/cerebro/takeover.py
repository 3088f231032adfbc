# SPDX-License-Identifier: Apache-2.0
"""What a site's only worker does when it starts: nobody else can be at work on what is marked running."""

from __future__ import annotations

from datetime import datetime

from django.db import connections
from django.utils import timezone

from prism.core.choices import TaskState
from prism.core.models import Task
from prism.core.services import tasks
from replication.cerebro import registry
from replication.choices import Direction
from replication.models import Replication
from replication.services import queue
from replication.services.transitions import change
from replication.states import ReplicationEvent, ReplicationState


def take_over() -> None:
    """Send again what the last worker left in the middle. Silence tells the same story, a minute later."""
    now = timezone.now()
    try:
        _replications(now)
        _tasks(now)
    finally:
        connections.close_all()  # the processes of the pool must not inherit it


def _replications(now: datetime) -> None:
    for row in Replication.objects.filter(state=ReplicationState.RUNNING, direction=Direction.OUT):
        reason = "the worker was started again"
        if change(row, ReplicationEvent.WORKER_LOST, actor=queue.WORKER, at=now, only_owner=row.owner, reason=reason):
            queue.enqueue(row, at=now)


def _tasks(now: datetime) -> None:
    for task in Task.objects.filter(state=TaskState.RUNNING, kind__in=registry.task_senders):
        tasks.orphan(task)
        registry.task_senders[task.kind](str(task.pk))
