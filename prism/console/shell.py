# SPDX-License-Identifier: Apache-2.0
"""What the top bar of every page shows: site, health, alerts, running tasks. Three queries."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Q
from django.http import HttpRequest

from prism.core.choices import Severity, TaskState
from prism.core.models import Alert, Site, Task

THEME_COOKIE = "prism_theme"
THEMES = ("auto", "light", "dark")


@dataclass(frozen=True)
class Shell:
    """Numbers of unresolved alerts by severity and of tasks that are not finished."""

    site: str
    critical: int
    warning: int
    tasks: int

    @property
    def health(self) -> str:
        """`bad`, `warn` or `good`."""
        return "bad" if self.critical else "warn" if self.warning else "good"

    @property
    def health_text(self) -> str:
        """The dot in words."""
        if not self.critical and not self.warning:
            return "No open alerts"
        return f"{self.critical} critical and {self.warning} warning alerts are open"


def shell_of(request: HttpRequest) -> Shell | None:
    """None when nobody is signed in; asked once per request."""
    if not getattr(request, "user", None) or not request.user.is_authenticated:
        return None
    cached = getattr(request, "_shell", None)
    if cached is None:
        alerts = Alert.objects.filter(resolved_at__isnull=True, acknowledged_at__isnull=True).aggregate(
            critical=Count("pk", filter=Q(severity=Severity.CRITICAL)),
            warning=Count("pk", filter=Q(severity=Severity.WARNING)),
        )
        cached = Shell(
            site=Site.objects.values_list("name", flat=True).first() or "Prism DR",
            critical=alerts["critical"],
            warning=alerts["warning"],
            tasks=Task.objects.filter(state__in=[TaskState.QUEUED, TaskState.RUNNING]).count(),
        )
        request._shell = cached  # type: ignore[attr-defined]
    return cached


def theme_of(request: HttpRequest | None) -> str:
    """`light` or `dark` as stored; "" = as the system says."""
    theme = request.COOKIES.get(THEME_COOKIE, "") if request is not None else ""
    return theme if theme in ("light", "dark") else ""
