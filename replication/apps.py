# SPDX-License-Identifier: Apache-2.0
"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class ReplicationConfig(AppConfig):
    """Remote sites, transfers and the leader."""

    name = "replication"
    verbose_name = "Replication"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Offer our own calls; the upper apps add theirs."""
        # Web, cerebro and commands send messages too: without this import Celery would use an app without a broker.
        import prism.celery  # noqa: F401
        from replication.cerebro import handlers

        handlers.register()
