# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    """The web console's shell: sign-in, home, tasks, alerts, events, audit, tokens. It has no models."""

    name = "prism.console"
    label = "console"
    verbose_name = "Prism console"
