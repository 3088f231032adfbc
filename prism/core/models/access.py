# SPDX-License-Identifier: Apache-2.0
"""What stands beside Django's user: one-time passwords, open sessions, recovery codes."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class Account(models.Model):
    """`one_time_until`: the password was set by an administrator, is to be changed, ends then; None = an own one."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE, related_name="account"
    )
    one_time_until = models.DateTimeField(null=True, blank=True)
    password_changed_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"account {self.pk}"


class SignInSession(models.Model):
    """A browser that is signed in. The row names it to its owner; whether it is valid is the session's own matter."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="sign_ins")
    session_key = models.CharField(max_length=40, unique=True)
    opened_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    address = models.CharField(max_length=64, blank=True)
    agent = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-last_seen_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.address} since {self.opened_at:%Y-%m-%d %H:%M}"


class RecoveryCode(models.Model):
    """Signs in once in place of the second factor. Only its SHA-256 is kept: the code has 80 random bits."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="recovery_codes")
    code_hash = models.CharField(max_length=64)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "code_hash"], name="core_recovery_code_once")]

    def __str__(self) -> str:
        return "used recovery code" if self.used_at else "recovery code"
