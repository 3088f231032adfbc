# SPDX-License-Identifier: Apache-2.0
"""What the landing page knows. A fixed number of queries, whatever the number of domains."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Case, IntegerField, OuterRef, Q, QuerySet, Subquery, Value, When

from dataprotection.choices import Mode, SnapshotState, StaleState
from dataprotection.models import ProtectionDomain, Snapshot
from dataprotection.selectors import Point, newest_elsewhere
from dataprotection.states import Phase
from prism.core.choices import Severity, TaskState
from prism.core.engine import engine
from prism.core.exceptions import Refused
from prism.core.models import Alert, Task
from replication.models import RemoteSite
from stargate.errors import StargateError

PROBLEMS_MAX = 20
DOMAINS_MAX = 50
TASKS_MAX = 10

BY_SEVERITY = Case(
    When(severity=Severity.CRITICAL, then=Value(0)),
    When(severity=Severity.WARNING, then=Value(1)),
    default=Value(2),
    output_field=IntegerField(),
)


@dataclass(frozen=True)
class DomainLine:
    """One domain's answer to "can I restore, and from when"."""

    domain: ProtectionDomain
    here: datetime | None
    elsewhere: list[Point]

    @property
    def problem(self) -> str:
        """State word of what is wrong with the domain itself, or nothing."""
        if self.domain.phase == Phase.NEEDS_OPERATOR:
            return "needs_operator"
        return self.domain.stale_state if self.domain.stale_state != StaleState.NONE else ""


@dataclass(frozen=True)
class Usage:
    """The engine's space; `error` says why it is unknown."""

    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def used_bytes(self) -> int:
        """What this site itself holds: extents, hot tier, log."""
        return sum(int(self.figures.get(part) or 0) for part in ("stored_bytes", "hot_bytes", "log_bytes"))

    @property
    def usable_bytes(self) -> int:
        """What it may use: its own and what is free. What others keep on the same file system is not its business."""
        return self.used_bytes + int(self.figures.get("free_bytes") or 0)

    @property
    def used_per_mille(self) -> int:
        """Its own of what it may use, 0..1000."""
        return self.used_bytes * 1000 // self.usable_bytes if self.usable_bytes else 0

    @property
    def runway_days(self) -> float | None:
        """Until nothing is free, at the pace of the last hours; None: not shrinking, or not known yet."""
        seconds = self.figures.get("runway_seconds")
        return None if seconds is None else float(seconds) / 86_400


@dataclass(frozen=True)
class HomePage:
    """Everything the landing page shows. `alerts`: critical and warning; `notes`: how many others are open."""

    alerts: list[Alert]
    notes: int
    domains: list[DomainLine]
    domain_count: int
    tasks: list[Task]
    sites: list[RemoteSite]
    usage: Usage


def usage() -> Usage:
    """Asked of the engine each time; a silent engine is shown, not an error page."""
    try:
        return Usage(dict(engine().usage()))
    except (Refused, StargateError, OSError) as error:
        return Usage(error=str(error) or "The block engine does not answer.")


def _worst_first() -> QuerySet[ProtectionDomain]:
    """Domains with their newest restore point here: those in trouble, those without a point, the others by name."""
    usable = [SnapshotState.AVAILABLE, SnapshotState.RETAIN_FOREVER]
    points = Snapshot.objects.filter(domain=OuterRef("pk"), state__in=usable, hidden_base=False)
    troubled = Q(phase=Phase.NEEDS_OPERATOR) | ~Q(stale_state=StaleState.NONE)
    rank = Case(
        When(troubled, then=Value(0)),
        When(mode=Mode.ACTIVE, newest=None, then=Value(1)),
        default=Value(2),
        output_field=IntegerField(),
    )
    newest = Subquery(points.order_by("-created_at").values("created_at")[:1])
    return ProtectionDomain.objects.annotate(newest=newest).annotate(rank=rank).order_by("rank", "name")


def _domains() -> list[DomainLine]:
    domains = list(_worst_first().prefetch_related("schedules__remotes__site")[:DOMAINS_MAX])
    elsewhere = newest_elsewhere([domain.pk for domain in domains])
    lines = []
    for domain in domains:
        points = {point.site: point for point in elsewhere.get(domain.pk, [])}
        for schedule in domain.schedules.all():
            for remote in schedule.remotes.all():
                points.setdefault(remote.site.name, Point(remote.site.name, None))
        here: datetime | None = domain.newest  # type: ignore[attr-defined]
        lines.append(DomainLine(domain, here, [points[name] for name in sorted(points)]))
    return lines


def home_page() -> HomePage:
    """Read it all."""
    open_alerts = Alert.objects.filter(resolved_at__isnull=True).order_by(BY_SEVERITY, "-raised_at")
    running = Task.objects.filter(state__in=[TaskState.QUEUED, TaskState.RUNNING]).order_by("-created_at")
    return HomePage(
        alerts=list(open_alerts.exclude(severity=Severity.INFO)[:PROBLEMS_MAX]),
        notes=open_alerts.filter(severity=Severity.INFO).count(),
        domains=_domains(),
        domain_count=ProtectionDomain.objects.count(),
        tasks=list(running[:TASKS_MAX]),
        sites=list(RemoteSite.objects.all()),
        usage=usage(),
    )
