# SPDX-License-Identifier: Apache-2.0
"""When snapshots are taken: schedules and one-time orders."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils.timezone import now

from dataprotection.choices import OneTimeState, ScheduleType
from dataprotection.models.domain import ProtectionDomain


class Schedule(models.Model):
    """Every `every_nth` minutes, hours or days from `start_at` on. Days follow `timezone`'s wall clock.

    `local_keep` snapshots live here; `local_ticked` False: the local one is kept as replication base only.
    `next_due_at` None = nothing more to come (past `end_at`).
    """

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    domain = models.ForeignKey(ProtectionDomain, on_delete=models.CASCADE, related_name="schedules")
    type = models.CharField(max_length=16, choices=ScheduleType.choices)
    every_nth = models.IntegerField()
    start_at = models.DateTimeField()
    end_at = models.DateTimeField(null=True, blank=True)
    timezone = models.CharField(max_length=64, default="UTC")
    app_consistent = models.BooleanField(default=False)
    local_keep = models.IntegerField(default=1)
    local_ticked = models.BooleanField(default=True)
    next_due_at = models.DateTimeField(null=True, blank=True, db_index=True)
    last_fired_at = models.DateTimeField(null=True, blank=True)
    suspended = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=now)

    class Meta:
        ordering = ["created_at"]

    def __str__(self) -> str:
        unit = {"MINUTELY": "minute", "HOURLY": "hour", "DAILY": "day"}[self.type]
        return f"Every {unit}" if self.every_nth == 1 else f"Every {self.every_nth} {unit}s"


class ScheduleRemote(models.Model):
    """How many snapshots of a schedule a remote site keeps."""

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="remotes")
    site = models.ForeignKey("replication.RemoteSite", on_delete=models.PROTECT, related_name="+")
    keep = models.IntegerField(default=1)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["schedule", "site"], name="dp_schedule_site_once")]

    def __str__(self) -> str:
        return f"{self.site}: {self.keep}"


class OneTimeSnapshot(models.Model):
    """An ad-hoc order: now or at `run_at`. `retention_seconds` None = never expires."""

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    domain = models.ForeignKey(ProtectionDomain, on_delete=models.CASCADE, related_name="one_time_snapshots")
    run_at = models.DateTimeField(db_index=True)
    local = models.BooleanField(default=True)
    retention_seconds = models.BigIntegerField(null=True, blank=True)
    app_consistent = models.BooleanField(default=False)
    sites = models.ManyToManyField("replication.RemoteSite", blank=True, related_name="+")
    state = models.CharField(max_length=16, choices=OneTimeState.choices, default=OneTimeState.SCHEDULED)
    task = models.ForeignKey("core.Task", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    ordered_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=now)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.domain} at {self.run_at:%Y-%m-%d %H:%M}"
