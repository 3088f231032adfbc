# SPDX-License-Identifier: Apache-2.0
"""Django admin: for looking. Verbs belong to the services, so rows are read-only here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from prism.core import models


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


for model in (models.Alert, models.ApiToken, models.AuditRow, models.Event, models.Site, models.Task):
    admin.site.register(model, ReadOnlyAdmin)
