# SPDX-License-Identifier: Apache-2.0
"""The tab Metrics of a protection domain: what it puts on the wire, and how far behind each other site is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from dataprotection.models import ProtectionDomain
from dataprotection.services.grid import interval
from prism.core.services import measurements
from prism.webkit.charts import Chart, spans
from prism.webkit.scales import Window, window
from prism.webkit.times import zone_of
from replication.choices import Direction
from replication.models import Replication
from replication.web import charts

LANES_MAX = 8


def metrics_of(request: HttpRequest, domain: ProtectionDomain) -> dict[str, Any]:
    """Context of the tab. Four queries, however many sites and replications."""
    now, zone = timezone.now(), zone_of(request)
    shown = window(request.GET.get("span", ""), now=now, since=domain.created_at, zone=zone)
    return {
        "charts": domain_charts(domain, shown, now),
        "spans": spans(shown, {"tab": "metrics"}),
        "chart_params": f"tab=metrics&span={shown.key}&",
        "pane_query": f"?tab=metrics&span={shown.key}",
    }


def domain_charts(domain: ProtectionDomain, shown: Window, now: datetime) -> list[Chart]:
    """Bandwidth, then lag and age for each lane: a remote site, or this one where snapshots come from it."""
    sent = measurements.read({measurements.SENT: domain.pk}, shown.start, shown.end)[measurements.SENT]
    rows = Replication.objects.filter(domain_uuid=domain.pk)
    arrived, before, promised = charts.arrivals(rows, shown), charts.newest_before(rows, shown), _promised(domain)
    found = [charts.bandwidth("bandwidth", "Bandwidth used (Tx)", sent, shown)]
    lanes = sorted({*arrived, *before, *((Direction.OUT.value, name) for name in promised)})
    for number, (direction, site) in enumerate(lanes[:LANES_MAX], 1):
        lane = arrived.get((direction, site), [])
        out = direction == Direction.OUT
        way, place = (f"to {site}", f"on {site}") if out else (f"from {site}", f"here, from {site}")
        found.append(
            charts.age(
                f"rpo-{number}", f"Recovery point age (RPO) {place}", lane, shown, now=now,
                before=before.get((direction, site)), promised=promised.get(site) if out else None,
            )
        )  # fmt: skip
        found.append(charts.lag(f"lag-{number}", f"Replication lag {way}", lane, shown))
    return found


def _promised(domain: ProtectionDomain) -> dict[str, timedelta]:
    """The shortest interval in which a schedule of the domain promises each remote site a snapshot."""
    found: dict[str, timedelta] = {}
    for schedule in domain.schedules.filter(suspended=False).prefetch_related("remotes__site"):
        for remote in schedule.remotes.all():
            found[remote.site.name] = min(interval(schedule), found.get(remote.site.name, timedelta.max))
    return found
