# SPDX-License-Identifier: Apache-2.0
"""Long work as a row: what the pages show while a worker does it."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.db import models
from django.utils import timezone

from prism.core import pace
from prism.core.choices import TASK_FINISHED, TaskState

STALLED_AFTER = timedelta(seconds=60)
"""A running task without a heartbeat for this long has lost its worker."""
SILENT = "another worker: its own gives no sign of life, and the leader hands the task on to go on where it stopped"


class Task(models.Model):
    """One order that takes longer than a request. `total_bytes` is None while unknown.

    `samples` are those of `prism.core.pace`; `moved_at` is when phase or bytes last changed; `waits_for` names what
    holds it up, as an object of the sentence "It waits for ...".
    """

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=64, db_index=True)
    state = models.CharField(max_length=16, choices=TaskState.choices, default=TaskState.QUEUED, db_index=True)
    phase = models.CharField(max_length=64, blank=True)
    done_bytes = models.BigIntegerField(default=0)
    total_bytes = models.BigIntegerField(null=True, blank=True)
    samples = models.JSONField(default=list, blank=True)
    moved_at = models.DateTimeField(null=True, blank=True)
    waits_for = models.CharField(max_length=300, blank=True)
    message = models.TextField(blank=True)
    error = models.TextField(blank=True)
    actor = models.CharField(max_length=200)
    object_type = models.CharField(max_length=64, blank=True)
    object_name = models.CharField(max_length=1024, blank=True)
    object_id = models.CharField(max_length=64, blank=True, db_index=True)
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    idempotency_key = models.CharField(max_length=255, null=True, blank=True, unique=True)
    arguments = models.JSONField(default=dict, blank=True)
    result = models.JSONField(default=dict, blank=True)
    attempts = models.IntegerField(default=0)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.kind} {self.object_name}".strip()

    @property
    def finished(self) -> bool:
        return self.state in TASK_FINISHED

    @property
    def percent(self) -> int | None:
        """0..100; None while the total is unknown."""
        if self.state == TaskState.SUCCEEDED:
            return 100
        if not self.total_bytes:
            return None
        return min(100, self.done_bytes * 100 // self.total_bytes)

    @property
    def silent(self) -> bool:
        """Running, but its worker has given no sign for more than `STALLED_AFTER`."""
        if self.state != TaskState.RUNNING:
            return False
        last = self.heartbeat_at or self.started_at or self.created_at
        return timezone.now() - last > STALLED_AFTER

    @property
    def pace(self) -> pace.Pace:
        """Rate, time left and whether it moves, now."""
        if self.state != TaskState.RUNNING:
            return pace.Pace(waits_for="" if self.finished else self.waits_for, over=self.finished)
        moved = self.moved_at or self.started_at or self.created_at
        still = timezone.now() - moved > pace.STALLED_AFTER
        return pace.pace_of(
            self.samples,
            done_bytes=self.done_bytes,
            total_bytes=self.total_bytes,
            stalled_since=moved if still else self.heartbeat_at if self.silent else None,
            waits_for=SILENT if self.silent else self.waits_for,
        )

    @property
    def stalled(self) -> bool:
        """Running without moving, or without a worker that gives a sign."""
        return self.pace.stalled
