# SPDX-License-Identifier: Apache-2.0
"""The lower tabs of a protection domain, each with its own query."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from django.db.models import Max, Min, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from dataprotection.choices import SnapshotState
from dataprotection.models import ProtectionDomain, Snapshot
from dataprotection.web.charts import metrics_of
from dataprotection.web.timeline import Point, look, timeline
from prism.core.models import Alert, Event
from prism.webkit.charts import chart_file
from prism.webkit.exports import Columns, export
from prism.webkit.tables import Table, table
from prism.webkit.times import zone_of
from replication.choices import Direction
from replication.models import Replication
from replication.states import ReplicationState

PREFIX = "t_"
SNAPSHOT_SORTS = {"id": "local_id", "create": "created_at", "reclaimable": "reclaimable_bytes", "expiry": "expires_at"}
REPLICATION_SORTS = {
    "id": "display_id",
    "site": "site__name",
    "state": "state",
    "created": "created_at",
    "done": "done_bytes",
}


def snapshots_of(domain: ProtectionDomain, *, include_expired: bool) -> QuerySet[Snapshot]:
    """Restore points kept here; hidden replication bases are none."""
    rows = Snapshot.objects.filter(domain=domain, hidden_base=False)
    return rows if include_expired else rows.exclude(state__in=[SnapshotState.EXPIRED, SnapshotState.DELETING])


def _replications(request: HttpRequest, domain: ProtectionDomain) -> dict[str, Any]:
    rows = Replication.objects.filter(domain_uuid=domain.pk).select_related("site")
    return {
        "table": table(
            request,
            rows,
            sorts=REPLICATION_SORTS,
            default="-created",
            search=("display_id", "site__name"),
            prefix=PREFIX,
        )
    }


def _entities(request: HttpRequest, domain: ProtectionDomain) -> dict[str, Any]:
    rows = domain.entities.select_related("group", "vm", "volume_group", "stored_file")
    sorts = {"name": "name", "type": "entity_type", "cg": "group__name"}
    return {"table": table(request, rows, sorts=sorts, default="name", search=("name", "group__name"), prefix=PREFIX)}


def _schedules(request: HttpRequest, domain: ProtectionDomain) -> dict[str, Any]:
    waiting = domain.one_time_snapshots.filter(state="SCHEDULED").prefetch_related("sites").order_by("run_at")
    return {"schedules": domain.schedules.prefetch_related("remotes__site"), "one_time": waiting}


def _local(request: HttpRequest, domain: ProtectionDomain) -> dict[str, Any]:
    include_expired = request.GET.get("expired") == "1"
    rows = snapshots_of(domain, include_expired=include_expired)
    found = table(request, rows, sorts=SNAPSHOT_SORTS, default="-create", search=("display_id", "kind"), prefix=PREFIX)
    return {"table": found, "include_expired": include_expired}


def _timeline(request: HttpRequest, domain: ProtectionDomain) -> dict[str, Any]:
    points, arrived = snapshots_of(domain, include_expired=True), _arrived(domain)
    now = timezone.now()
    ends = points.aggregate(first=Min("created_at"), last=Max("created_at"))
    far = arrived.aggregate(first=Min("snapshot_created_at"), last=Max("snapshot_created_at"))
    moments = [at for at in (*ends.values(), *far.values()) if at is not None]
    wanted = look(
        span=request.GET.get("span", ""), at=request.GET.get("at", ""), zone=zone_of(request),
        oldest=min(moments, default=now), newest=max(moments, default=now),
    )  # fmt: skip
    gone = {SnapshotState.EXPIRED, SnapshotState.DELETING}
    here = [
        Point(at, kind, state in gone, state == SnapshotState.RETAIN_FOREVER)
        for at, kind, state in points.filter(created_at__range=wanted.needed)
        .values_list("created_at", "kind", "state")
        .order_by()
    ]
    elsewhere: dict[str, list[Point]] = defaultdict(list)
    for name, at in (
        arrived.filter(snapshot_created_at__range=wanted.needed)
        .values_list("site__name", "snapshot_created_at")
        .order_by()
    ):
        elsewhere[name].append(Point(at))
    found = timeline(wanted, here=here, elsewhere=elsewhere, now=now, params={"tab": "timeline"})
    inside = points.filter(created_at__gte=found.start, created_at__lt=found.end)
    rows = table(request, inside, sorts=SNAPSHOT_SORTS, default="-create", prefix=PREFIX)
    return {"timeline": found, "table": rows, "any_points": bool(moments)}


def _arrived(domain: ProtectionDomain) -> QuerySet[Replication]:
    return Replication.objects.filter(domain_uuid=domain.pk, state=ReplicationState.SUCCEEDED, direction=Direction.OUT)


def _remote(request: HttpRequest, domain: ProtectionDomain) -> dict[str, Any]:
    rows = _arrived(domain).select_related("site")
    sorts = {"id": "display_id", "site": "site__name", "create": "snapshot_created_at", "arrived": "finished_at"}
    return {
        "table": table(
            request, rows, sorts=sorts, default="-create", search=("display_id", "site__name"), prefix=PREFIX
        )
    }


def _metrics(request: HttpRequest, domain: ProtectionDomain) -> dict[str, Any]:
    return metrics_of(request, domain)


def _notices(rows: QuerySet[Any], domain: ProtectionDomain) -> QuerySet[Any]:
    return rows.filter(object_name=domain.name, object_type__in=["protection_domain", "domain"])


def _alerts(request: HttpRequest, domain: ProtectionDomain) -> dict[str, Any]:
    sorts = {"severity": "severity", "title": "title", "object": "object_name", "raised": "raised_at"}
    rows = _notices(Alert.objects.all(), domain)
    return {"table": table(request, rows, sorts=sorts, default="-raised", search=("title", "message"), prefix=PREFIX)}


def _events(request: HttpRequest, domain: ProtectionDomain) -> dict[str, Any]:
    rows = _notices(Event.objects.all(), domain)
    return {
        "table": table(
            request, rows, sorts={"at": "at", "kind": "kind"}, default="-at", search=("kind", "message"), prefix=PREFIX
        )
    }


Pane = Callable[[HttpRequest, ProtectionDomain], dict[str, Any]]
PANES: dict[str, tuple[str, Pane]] = {
    "replications": ("Replications", _replications),
    "entities": ("Entities", _entities),
    "schedules": ("Schedules", _schedules),
    "timeline": ("Timeline", _timeline),
    "local": ("Local Snapshots", _local),
    "remote": ("Remote Snapshots", _remote),
    "metrics": ("Metrics", _metrics),
    "alerts": ("Alerts", _alerts),
    "events": ("Events", _events),
}
DEFAULT_PANE = "local"


COLUMNS: dict[str, Columns] = {
    "replications": {
        "direction": lambda row: row.direction,
        "snapshot": lambda row: row.display_id,
        "remote_site": lambda row: row.site.name,
        "state": lambda row: row.state,
        "started_at": lambda row: row.started_at,
        "finished_at": lambda row: row.finished_at,
        "done_bytes": lambda row: row.done_bytes,
        "total_bytes": lambda row: row.total_bytes,
        "wire_bytes": lambda row: row.wire_bytes,
        "saved_bytes": lambda row: row.saved_bytes,
    },
    "local": {
        "id": lambda row: row.display_id,
        "create_time": lambda row: row.created_at,
        "expiry_time": lambda row: row.expires_at,
        "reclaimable_bytes": lambda row: row.reclaimable_bytes,
        "state": lambda row: row.state,
        "kind": lambda row: row.kind,
        "consistency": lambda row: row.consistency,
    },
}


def pane_export(request: HttpRequest, domain: ProtectionDomain, pane: dict[str, Any]) -> HttpResponse | None:
    """The tab's table as a file, when the address asks for one."""
    if pane["tab"] == "metrics":
        return chart_file(request, pane["charts"], name=domain.name)
    columns = COLUMNS.get(pane["tab"])
    return export(request, pane["table"], columns, name=f"{domain.name}-{pane['tab']}") if columns else None


def pane_of(request: HttpRequest, domain: ProtectionDomain) -> dict[str, Any]:
    """Name, template and rows of the tab that the address names."""
    name = request.GET.get("tab", "")
    if name not in PANES:
        name = DEFAULT_PANE
    context = PANES[name][1](request, domain)
    found = context.get("table")
    if isinstance(found, Table) and "tab" not in found.params:
        context["table"] = Table(found.page, found.query, found.sort, found.prefix, {**found.params, "tab": name})
    return {
        "tab": name,
        "tabs": [(key, label) for key, (label, _) in PANES.items()],
        "pane_template": f"dataprotection/panes/_{name}.html",
        **context,
    }
