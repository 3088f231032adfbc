# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from django.apps import AppConfig


class DataProtectionConfig(AppConfig):
    """What is protected, when, and how long."""

    name = "dataprotection"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Data protection"

    def ready(self) -> None:
        """Offer our calls to other sites, and our work to the leader."""
        from dataprotection.services import leading, peers

        peers.register()
        leading.register()
