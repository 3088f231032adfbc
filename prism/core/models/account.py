# SPDX-License-Identifier: Apache-2.0
"""Who ordered what, and the tokens of API clients."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from prism.core.choices import ActorSource, Outcome


class AuditRow(models.Model):
    """One order: who, from where, what, outcome. Written by the services, never changed."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    actor = models.CharField(max_length=200)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    source = models.CharField(max_length=16, choices=ActorSource.choices)
    address = models.CharField(max_length=64, blank=True)
    verb = models.CharField(max_length=64, db_index=True)
    object_type = models.CharField(max_length=64, blank=True)
    object_name = models.CharField(max_length=1024, blank=True)
    outcome = models.CharField(max_length=16, choices=Outcome.choices)
    detail = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.actor} {self.verb} {self.object_name}: {self.outcome}"


class ApiToken(models.Model):
    """A bearer token. Only its SHA-256 is kept; `prefix` lets its owner recognise it. `expires_at` None = never."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=75)
    token_hash = models.CharField(max_length=64, unique=True)
    prefix = models.CharField(max_length=16)
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="core_token_name_per_user")]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}...)"
