# SPDX-License-Identifier: Apache-2.0
"""What the operator is told: events (it happened) and alerts (act on it)."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from prism.core.choices import Severity


class Event(models.Model):
    """Something that happened to an object. Never changed, pruned by age."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    kind = models.CharField(max_length=64, db_index=True)
    severity = models.CharField(max_length=16, choices=Severity.choices, default=Severity.INFO)
    message = models.TextField()
    object_type = models.CharField(max_length=64, blank=True)
    object_name = models.CharField(max_length=1024, blank=True)
    object_id = models.CharField(max_length=64, blank=True, db_index=True)

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return self.message


class Alert(models.Model):
    """A condition that needs somebody. One unresolved row per `dedup_key`; `occurrences` counts repeats."""

    kind = models.CharField(max_length=64, db_index=True)
    severity = models.CharField(max_length=16, choices=Severity.choices)
    title = models.CharField(max_length=200)
    message = models.TextField()
    cause = models.TextField(blank=True)
    next_step = models.TextField(blank=True)
    object_type = models.CharField(max_length=64, blank=True)
    object_name = models.CharField(max_length=1024, blank=True)
    object_id = models.CharField(max_length=64, blank=True, db_index=True)
    dedup_key = models.CharField(max_length=255)
    occurrences = models.IntegerField(default=1)
    raised_at = models.DateTimeField(default=timezone.now, db_index=True)
    last_seen_at = models.DateTimeField(default=timezone.now)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=200, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True, db_index=True)
    resolved_by = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-raised_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["dedup_key"], condition=models.Q(resolved_at__isnull=True), name="core_alert_one_unresolved"
            )
        ]

    def __str__(self) -> str:
        return self.title
