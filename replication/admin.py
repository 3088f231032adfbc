# SPDX-License-Identifier: Apache-2.0
"""Read-only views for superusers: rows change through the services alone."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from replication.models import LeaderState, RemoteSite, Replication, ReplicationTransition


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """Look, do not touch."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(RemoteSite)
class RemoteSiteAdmin(ReadOnly):
    list_display = ["name", "status", "fingerprint", "last_seen_at"]


class TransitionInline(admin.TabularInline):  # type: ignore[type-arg]
    model = ReplicationTransition
    extra = 0
    can_delete = False


@admin.register(Replication)
class ReplicationAdmin(ReadOnly):
    list_display = ["domain_name", "display_id", "site", "direction", "state", "phase", "created_at"]
    list_filter = ["state", "direction", "site"]
    inlines = [TransitionInline]


@admin.register(LeaderState)
class LeaderStateAdmin(ReadOnly):
    list_display = ["holder", "term", "since", "heartbeat_at"]
