# SPDX-License-Identifier: Apache-2.0
"""Another site of ours or of a partner."""

from __future__ import annotations

import uuid

from django.db import models

from replication.choices import Capability, SiteStatus

CONTROL_PORT = 2020
DATA_PORT = 2009


class RemoteSite(models.Model):
    """A site that snapshots can go to or come from. Not paired yet: no `site_uuid`, no certificate, nothing is sent."""

    uuid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=75, unique=True)
    site_uuid = models.UUIDField(unique=True, null=True, blank=True)  # the peer's own identity; None until paired
    capability = models.CharField(max_length=20, choices=Capability, default=Capability.DISASTER_RECOVERY)
    addresses = models.JSONField(default=list)  # [{host, control_port, data_port}], tried in order
    certificate_pem = models.TextField(blank=True)  # pinned; empty until paired
    fingerprint = models.CharField(max_length=128, blank=True)  # of `certificate_pem`
    pairing_fingerprint = models.CharField(max_length=128, blank=True)  # of both certificates: equal on both sites
    container_map = models.JSONField(default=dict, blank=True)  # name here -> name there
    network_map = models.JSONField(default=dict, blank=True)  # name here -> name there
    compress = models.BooleanField(default=True)
    status = models.CharField(max_length=30, choices=SiteStatus, default=SiteStatus.NOT_PAIRED)
    latency_seconds = models.FloatField(null=True, blank=True)  # of the last answered ping; None before the first
    last_seen_at = models.DateTimeField(null=True, blank=True)
    silent_since = models.DateTimeField(null=True, blank=True)  # first unanswered ping of the present silence
    engine_knows = models.BooleanField(default=False)  # False: the leader still has to tell the engine its pin
    peer_info = models.JSONField(default=dict, blank=True)  # last ping answer: name, versions, free bytes
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_paired(self) -> bool:
        """Both sides know each other's certificate."""
        return bool(self.certificate_pem)
