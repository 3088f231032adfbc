# SPDX-License-Identifier: Apache-2.0
"""Django admin: for looking. Verbs belong to the services, so rows are read-only here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from dataprotection import models


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(models.ProtectionDomain)
class DomainAdmin(ReadOnlyAdmin):
    list_display = ("name", "mode", "phase", "stale_state", "mode_generation")
    list_filter = ("mode", "phase")
    search_fields = ("name",)


@admin.register(models.Snapshot)
class SnapshotAdmin(ReadOnlyAdmin):
    list_display = ("display_id", "domain_name", "created_at", "expires_at", "state", "kind")
    list_filter = ("state", "kind", "domain_name")


for model in (
    models.ConsistencyGroup,
    models.DomainTransition,
    models.OneTimeSnapshot,
    models.ProtectedEntity,
    models.Schedule,
    models.StorageContainer,
    models.StoredFile,
    models.VM,
    models.VirtualDisk,
    models.VolumeGroup,
):
    admin.site.register(model, ReadOnlyAdmin)
