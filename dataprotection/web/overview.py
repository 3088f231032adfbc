# SPDX-License-Identifier: Apache-2.0
"""Data Protection, view Overview: numbers, links to the other sites, alerts and events. A fixed number of queries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Max, Q, Sum
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


@dataclass
class Link:
    """A remote site with what goes to it and comes from it; rates in bytes per second."""

    site: RemoteSite
    sent_domains: int = 0
    sent_at: datetime | None = None
    received_at: datetime | None = None
    tx: int = 0
    rx: int = 0
    failed: int = 0


def _links() -> list[Link]:
    """One query over the replications, whatever the number of sites."""
    links = {site.pk: Link(site) for site in RemoteSite.objects.order_by("name")}
    sums = Replication.objects.values("site", "direction", "state").annotate(
        n=Count("pk"), at=Max("finished_at"), rate=Sum("rate_bytes_per_second", default=0)
    )
    for row in sums.order_by():
        link, out = links[row["site"]], row["direction"] == Direction.OUT
        if row["state"] == ReplicationState.RUNNING:
            link.tx, link.rx = (row["rate"], link.rx) if out else (link.tx, row["rate"])
        elif row["state"] == ReplicationState.SUCCEEDED and out:
            link.sent_at = row["at"]
        elif row["state"] == ReplicationState.SUCCEEDED:
            link.received_at = row["at"]
        elif row["state"] == ReplicationState.FAILED:
            link.failed += row["n"]
    arrived = Replication.objects.filter(direction=Direction.OUT, state=ReplicationState.SUCCEEDED)
    pairs = arrived.order_by().values_list("site", "domain_uuid").distinct()
    for site, count in Counter(site for site, _domain in pairs).items():
        links[site].sent_domains = count
    return list(links.values())


@reader
def overview(request: HttpRequest) -> HttpResponse:
    """The page, or its live part."""
    open_alerts = Alert.objects.filter(resolved_at__isnull=True)
    counted = dict(open_alerts.values_list("severity").annotate(n=Count("pk")).order_by())
    links = _links()
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
