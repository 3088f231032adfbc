# SPDX-License-Identifier: Apache-2.0
"""Enums of the core with what the pages show for them."""

from __future__ import annotations

from django.db import models


class TaskState(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


TASK_FINISHED = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED})


class Severity(models.TextChoices):
    CRITICAL = "critical", "Critical"
    WARNING = "warning", "Warning"
    INFO = "info", "Info"


class ActorSource(models.TextChoices):
    CONSOLE = "console", "Console"
    API = "api", "API"
    TASK = "task", "Task"
    CLI = "cli", "Command line"
    PEER = "peer", "Remote site"


class NbdClientState(models.TextChoices):
    GOOD = "good", "Good"
    EXPIRED = "expired", "Expired"
    REVOKED = "revoked", "Revoked"


class Outcome(models.TextChoices):
    OK = "ok", "Done"
    REFUSED = "refused", "Refused"
    FAILED = "failed", "Failed"
