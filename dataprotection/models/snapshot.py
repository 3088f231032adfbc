# SPDX-License-Identifier: Apache-2.0
"""Restore points."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from dataprotection.choices import Consistency, SnapshotKind, SnapshotState
from dataprotection.models.domain import ProtectionDomain
from dataprotection.models.inventory import NAME_MAX


class Snapshot(models.Model):
    """One point in time of a domain; uuid = the engine's snapshot id. The row is a view of the engine's catalog.

    `display_id`: digits here, `cluster:incarnation:id` when received. `expires_at` None = kept for ever.
    `hidden_base`: LOCAL was unticked, kept only as the base of the next replication.
    `reclaimable_bytes` None = the scan has not visited it yet ("Processing").
    """

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    domain = models.ForeignKey(ProtectionDomain, null=True, on_delete=models.SET_NULL, related_name="snapshots")
    domain_name = models.CharField(max_length=NAME_MAX)
    display_id = models.CharField(max_length=64, db_index=True)
    cluster_id = models.BigIntegerField()
    incarnation_id = models.BigIntegerField()
    local_id = models.BigIntegerField()
    created_at = models.DateTimeField(db_index=True)
    expires_at = models.DateTimeField(null=True, blank=True, db_index=True)
    state = models.CharField(max_length=16, choices=SnapshotState.choices)
    origin_site_uuid = models.UUIDField()
    received = models.BooleanField(default=False)
    kind = models.CharField(max_length=16, choices=SnapshotKind.choices)
    schedule_uuid = models.UUIDField(null=True, blank=True)
    one_time_uuid = models.UUIDField(null=True, blank=True)
    consistency = models.CharField(max_length=8, choices=Consistency.choices, default=Consistency.CRASH)
    consistency_wanted = models.CharField(max_length=8, choices=Consistency.choices, default=Consistency.CRASH)
    hidden_base = models.BooleanField(default=False)
    manifest: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField()
    size_bytes = models.BigIntegerField()
    reclaimable_bytes = models.BigIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-local_id"]
        indexes = [models.Index(fields=["domain", "-created_at"], name="dp_snapshot_newest_of_domain")]
        constraints = [
            models.UniqueConstraint(
                fields=["cluster_id", "incarnation_id", "local_id"], name="dp_snapshot_composite_id"
            )
        ]

    def __str__(self) -> str:
        return self.display_id
