# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Accounts, tasks, alerts, events and audit: the lowest Django layer."""

    name = "prism.core"
    label = "core"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Prism core"

    def ready(self) -> None:
        """Connect what listens to sign-ins."""
        from prism.core.services import sessions, signins  # noqa: F401
