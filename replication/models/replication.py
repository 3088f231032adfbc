# SPDX-License-Identifier: Apache-2.0
"""One snapshot on its way between this site and another."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q

from replication.choices import Direction, ReplicationPhase
from replication.models.remote_site import RemoteSite
from replication.states import ReplicationState

STATE_CHOICES = [(state.value, state.value.capitalize()) for state in ReplicationState]


class Replication(models.Model):
    """A snapshot, named by uuid and manifest only, and a remote site. Changed through `services.replications` alone."""

    uuid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)  # engine job, receiver's key
    snapshot_uuid = models.UUIDField(db_index=True)
    snapshot_created_at = models.DateTimeField()
    domain_uuid = models.UUIDField()
    domain_name = models.CharField(max_length=75)
    display_id = models.CharField(max_length=64)  # id of the snapshot as the console shows it
    site = models.ForeignKey(RemoteSite, on_delete=models.CASCADE, related_name="replications")
    direction = models.CharField(max_length=3, choices=Direction, default=Direction.OUT)
    state = models.CharField(max_length=10, choices=STATE_CHOICES, default=ReplicationState.PENDING)
    phase = models.CharField(max_length=10, choices=ReplicationPhase, default=ReplicationPhase.QUEUED)
    manifest = models.JSONField()
    retention_seconds = models.BigIntegerField(null=True, blank=True)  # from receipt on; None = for ever
    hidden_base = models.BooleanField(default=False)  # kept here only as the base of the next replication
    session = models.CharField(max_length=64, blank=True)  # of the receiver's grant
    base_snapshot_uuid = models.UUIDField(null=True, blank=True)  # common snapshot sent against; None = full
    done_bytes = models.BigIntegerField(default=0)
    total_bytes = models.BigIntegerField(default=0)
    wire_bytes = models.BigIntegerField(default=0)
    chunks_total = models.BigIntegerField(default=0)
    chunks_sent = models.BigIntegerField(default=0)
    chunks_deduplicated = models.BigIntegerField(default=0)
    saved_bytes = models.BigIntegerField(default=0)  # total_bytes that did not have to cross the wire
    rate_bytes_per_second = models.BigIntegerField(default=0)
    start_at = models.DateTimeField()  # not before
    expires_at = models.DateTimeField(null=True, blank=True)  # of the queue place (out) or the grant (in); None = never
    created_at = models.DateTimeField()
    enqueued_at = models.DateTimeField(null=True, blank=True)  # last message to the queue
    next_attempt_at = models.DateTimeField(null=True, blank=True)  # back-off after an unreachable peer
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    owner = models.CharField(max_length=64, blank=True)  # token of the run that owns a RUNNING row; empty otherwise
    term = models.BigIntegerField(default=0)  # leader term the run was claimed under
    task_uuid = models.UUIDField(null=True, blank=True)  # row of `prism.core.Task` that shows this to the operator

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["site", "domain_uuid"],
                condition=Q(state=ReplicationState.RUNNING, direction=Direction.OUT),
                name="one_replication_in_flight_per_domain_and_site",
            ),
            models.UniqueConstraint(
                fields=["site", "snapshot_uuid", "direction"],
                condition=Q(state__in=["PENDING", "RUNNING", "PAUSED", "SUCCEEDED"]),
                name="one_live_replication_per_snapshot_and_site",
            ),
            models.CheckConstraint(
                condition=~Q(state=ReplicationState.RUNNING) | ~Q(owner="") | Q(direction=Direction.IN),
                name="a_running_replication_has_an_owner",
            ),
        ]
        indexes = [
            models.Index(F("site"), F("domain_uuid"), F("snapshot_created_at").desc(), name="replication_lane"),
            models.Index(fields=["domain_uuid", "-snapshot_created_at"], name="replication_of_domain"),
            models.Index(fields=["state", "heartbeat_at"], name="replication_state"),
        ]

    def __str__(self) -> str:
        way = "to" if self.direction == Direction.OUT else "from"
        return f"{self.domain_name} {self.display_id} {way} site {self.site_id}"


class ReplicationTransition(models.Model):
    """One change of state, in the same transaction as the change."""

    replication = models.ForeignKey(Replication, on_delete=models.CASCADE, related_name="transitions")
    at = models.DateTimeField()
    event = models.CharField(max_length=12)
    from_state = models.CharField(max_length=10)
    to_state = models.CharField(max_length=10)
    reason = models.TextField(blank=True)
    actor = models.CharField(max_length=200)

    class Meta:
        ordering = ["at", "id"]

    def __str__(self) -> str:
        return f"{self.from_state} -> {self.to_state}"
