# SPDX-License-Identifier: Apache-2.0
"""Long work as a row: what the pages show while a worker does it."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.db import models
from django.utils import timezone

from prism.core.choices import TASK_FINISHED, TaskState

STALLED_AFTER = timedelta(seconds=60)
"""A running task without a heartbeat for this long has lost its worker."""


class Task(models.Model):
    """One order that takes longer than a request. `total_bytes` is None while unknown; `rate` is bytes per second."""

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=64, db_index=True)
    state = models.CharField(max_length=16, choices=TaskState.choices, default=TaskState.QUEUED, db_index=True)
    phase = models.CharField(max_length=64, blank=True)
    done_bytes = models.BigIntegerField(default=0)
    total_bytes = models.BigIntegerField(null=True, blank=True)
    rate = models.BigIntegerField(default=0)
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
    def stalled(self) -> bool:
        """Running, but its worker has been silent for more than `STALLED_AFTER`."""
        if self.state != TaskState.RUNNING:
            return False
        last = self.heartbeat_at or self.started_at or self.created_at
        return timezone.now() - last > STALLED_AFTER
