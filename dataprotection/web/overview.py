# SPDX-License-Identifier: Apache-2.0
"""Data Protection, view Overview: numbers, links to the other sites, alerts and events. A fixed number of queries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Max, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse

from dataprotection.choices import Mode, SnapshotState
from dataprotection.models import VM, ProtectedEntity, ProtectionDomain, Snapshot, StoredFile, VolumeGroup
from dataprotection.web.topology import topology
from prism.core.choices import Severity
from prism.core.models import Alert, Event
from prism.webkit.access import reader
from prism.webkit.pages import is_fragment, show
from replication.choices import Direction
from replication.models import RemoteSite, Replication
from replication.states import ReplicationState

EVENTS_SHOWN = 8
_OUT, _IN = Q(replications__direction=Direction.OUT), Q(replications__direction=Direction.IN)
_RUNNING = Q(replications__state=ReplicationState.RUNNING)
_ARRIVED = Q(replications__state=ReplicationState.SUCCEEDED)


@dataclass(frozen=True)
class Numbers:
    """Counts of this site; `newest` is the time of its newest restore point, None without one."""

    active: int
    inactive: int
    protected: int
    unprotected: int
    points: int
    newest: datetime | None
    ongoing: int
    pending: int


def _numbers() -> Numbers:
    domains = ProtectionDomain.objects.aggregate(
        active=Count("pk", filter=Q(mode=Mode.ACTIVE)), inactive=Count("pk", filter=Q(mode=Mode.INACTIVE))
    )
    usable = [SnapshotState.AVAILABLE, SnapshotState.RETAIN_FOREVER]
    points = Snapshot.objects.filter(state__in=usable, hidden_base=False)
    waiting = Replication.objects.aggregate(
        ongoing=Count("pk", filter=Q(state=ReplicationState.RUNNING)),
        pending=Count("pk", filter=Q(state=ReplicationState.PENDING)),
    )
    return Numbers(
        protected=ProtectedEntity.objects.count(),
        unprotected=sum(model.objects.filter(protection=None).count() for model in (VM, VolumeGroup, StoredFile)),
        **domains,
        **points.aggregate(points=Count("pk"), newest=Max("created_at")),
        **waiting,
    )


def _links() -> QuerySet[RemoteSite]:
    """Each remote site with what goes to it and comes from it."""
    return RemoteSite.objects.annotate(
        sent_domains=Count("replications__domain_uuid", filter=_OUT & _ARRIVED, distinct=True),
        sent_at=Max("replications__finished_at", filter=_OUT & _ARRIVED),
        received_at=Max("replications__finished_at", filter=_IN & _ARRIVED),
        tx=Sum("replications__rate_bytes_per_second", filter=_OUT & _RUNNING, default=0),
        rx=Sum("replications__rate_bytes_per_second", filter=_IN & _RUNNING, default=0),
        failed=Count("replications", filter=Q(replications__state=ReplicationState.FAILED)),
    ).order_by("name")


@reader
def overview(request: HttpRequest) -> HttpResponse:
    """The page, or its live part."""
    open_alerts = Alert.objects.filter(resolved_at__isnull=True)
    counted = dict(open_alerts.values_list("severity").annotate(n=Count("pk")).order_by())
    links = list(_links())
    context = {
        "nav": "Data Protection",
        "numbers": _numbers(),
        "links": links,
        "topology": topology(links),
        "alerts": [(value, label, counted.get(value, 0)) for value, label in Severity.choices],
        "events": Event.objects.order_by("-at")[:EVENTS_SHOWN],
    }
    template = "dataprotection/_overview.html" if is_fragment(request) else "dataprotection/overview.html"
    return show(request, template, context)
