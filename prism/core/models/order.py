# SPDX-License-Identifier: Apache-2.0
"""Orders of the JSON API that carried an Idempotency-Key, and what was answered."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Order(models.Model):
    """One order of one user. `status` None: it is being carried out, or its process died. Of an `is_secret` answer,
    which is shown once, there is no body.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="orders")
    key = models.CharField(max_length=128)
    fingerprint = models.CharField(max_length=64)
    begun_at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    body = models.TextField(blank=True)
    is_secret = models.BooleanField(default=False)
    location = models.CharField(max_length=255, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="core_order_once")]
        indexes = [models.Index(fields=["begun_at"], name="core_order_begun")]

    def __str__(self) -> str:
        return f"{self.key}: {self.status or 'under way'}"
