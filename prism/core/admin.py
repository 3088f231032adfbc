# SPDX-License-Identifier: Apache-2.0
"""Django admin: for looking. Verbs belong to the services, so rows are read-only here."""

from __future__ import annotations

from typing import Any

from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from django_otp.plugins.otp_totp.models import TOTPDevice

from prism.core import models
from prism.core.actor import Actor
from prism.core.choices import ActorSource
from prism.core.services import signins


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AlertAdmin(ReadOnlyAdmin):
    list_display = ("title", "severity", "object_name", "raised_at", "occurrences", "acknowledged_by", "resolved_at")
    list_filter = ("severity", "kind")
    search_fields = ("title", "message", "object_name")


class AuditRowAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "source", "address", "verb", "object_name", "outcome")
    list_filter = ("outcome", "source")
    search_fields = ("actor", "verb", "object_name", "address")


class ApiTokenAdmin(ReadOnlyAdmin):
    list_display = ("name", "user", "prefix", "created_at", "last_used_at", "expires_at", "revoked_at")
    exclude = ("token_hash",)
    search_fields = ("name", "user__username")


class EventAdmin(ReadOnlyAdmin):
    list_display = ("at", "kind", "severity", "object_name", "message")
    list_filter = ("severity",)
    search_fields = ("kind", "message", "object_name")


class MeasurementAdmin(ReadOnlyAdmin):
    list_display = ("at", "series", "subject", "value")
    list_filter = ("series",)
    search_fields = ("subject",)


class OrderAdmin(ReadOnlyAdmin):
    list_display = ("begun_at", "user", "key", "status", "location")
    list_filter = ("status",)
    search_fields = ("key",)
    exclude = ("body",)


class TaskAdmin(ReadOnlyAdmin):
    list_display = ("kind", "state", "actor", "object_name", "started_at")
    list_filter = ("state", "kind")
    search_fields = ("object_name", "actor")


class UserAdmin(ReadOnlyAdmin):
    """Users are managed on the console's page Users, where each change leaves an audit row."""

    list_display = ("username", "is_superuser", "is_active", "last_login", "date_joined")
    list_filter = ("is_superuser", "is_active", "groups")
    search_fields = ("username",)
    exclude = ("password",)


class SessionAdmin(ReadOnlyAdmin):
    list_display = ("user", "address", "agent", "opened_at", "last_seen_at")
    search_fields = ("user__username", "address")
    exclude = ("session_key",)


class RecoveryCodeAdmin(ReadOnlyAdmin):
    list_display = ("user", "used_at")
    exclude = ("code_hash",)


class SecondFactorAdmin(ReadOnlyAdmin):
    list_display = ("user", "confirmed", "created_at", "last_used_at")
    exclude = ("key",)


class FailureAdmin(ReadOnlyAdmin):
    """Failed sign-ins of the last minutes; the action lets their names try again."""

    list_display = ("username", "ip_address", "failures_since_start", "attempt_time", "user_agent")
    search_fields = ("username", "ip_address")
    exclude = ("get_data", "post_data")
    actions = ("unlock",)

    @admin.action(description="Unlock: forget these failures")
    def unlock(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        """Through the service, so that it leaves audit rows."""
        address = request.META.get("REMOTE_ADDR") or ""
        actor = Actor.from_user(request.user, source=ActorSource.CONSOLE, address=address)
        for username, counted in set(rows.values_list("username", "ip_address")):
            signins.unlock(username=username or "", address=counted or "", actor=actor)


class AccountAdmin(ReadOnlyAdmin):
    list_display = ("user", "password_changed_at", "one_time_until")


for theirs in (User, Group, TOTPDevice):
    admin.site.unregister(theirs)
admin.site.register(models.Account, AccountAdmin)
admin.site.register(models.Alert, AlertAdmin)
admin.site.register(models.ApiToken, ApiTokenAdmin)
admin.site.register(models.AuditRow, AuditRowAdmin)
admin.site.register(models.Event, EventAdmin)
admin.site.register(models.Measurement, MeasurementAdmin)
admin.site.register(models.Order, OrderAdmin)
admin.site.register(models.RecoveryCode, RecoveryCodeAdmin)
admin.site.register(models.SignInSession, SessionAdmin)
admin.site.register(models.Task, TaskAdmin)
admin.site.register(User, UserAdmin)
admin.site.register(AccessAttempt, FailureAdmin)
admin.site.register(TOTPDevice, SecondFactorAdmin)
for model in (Group, models.LocalIdCounter, models.Site):
    admin.site.register(model, ReadOnlyAdmin)
