# SPDX-License-Identifier: Apache-2.0
"""One-time codes that let one other site in."""

from __future__ import annotations

from django.db import models

PAIRING_ATTEMPTS_MAX = 3
PAIRING_SECONDS = 600


class PairingCode(models.Model):
    """A code shown once to an operator. Only its hash is stored, which is also the key of the proof."""

    code_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)  # wrong proofs seen while this code was open
    used_at = models.DateTimeField(null=True, blank=True)
    used_by_fingerprint = models.CharField(max_length=128, blank=True)  # that peer may repeat its request

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"pairing code of {self.created_at:%Y-%m-%d %H:%M}"
