# SPDX-License-Identifier: Apache-2.0
"""Alerts, events and the audit trail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.http import require_POST

from prism.console.home import BY_SEVERITY
from prism.core.choices import Outcome, Severity
from prism.core.models import Alert, AuditRow, Event
from prism.core.services import alerts as alert_services
from prism.webkit.access import operator, reader
from prism.webkit.exports import Columns, export
from prism.webkit.orders import actor_of, press
from prism.webkit.pages import back_url, is_fragment, show
from prism.webkit.tables import table
from prism.webkit.times import zone_of

ALERT_SORTS = {"title": "title", "severity": "rank", "object": "object_name", "raised": "raised_at"}
EVENT_SORTS = {"at": "at", "kind": "kind", "object": "object_name"}
EVENT_COLUMNS: Columns = {
    "at": lambda row: row.at,
    "severity": lambda row: row.severity,
    "kind": lambda row: row.kind,
    "object": lambda row: row.object_name,
    "message": lambda row: row.message,
}
AUDIT_COLUMNS: Columns = {
    "at": lambda row: row.at,
    "who": lambda row: row.actor,
    "source": lambda row: row.source,
    "address": lambda row: row.address,
    "order": lambda row: row.verb,
    "object_type": lambda row: row.object_type,
    "object": lambda row: row.object_name,
    "outcome": lambda row: row.outcome,
    "detail": lambda row: row.detail,
}
SEARCHED_ROWS = 100_000
"""How far back a search goes through tables that only grow; a day of the audit trail is searched whole."""
AUDIT_SORTS = {"at": "at", "actor": "actor", "verb": "verb", "object": "object_name", "outcome": "outcome"}


@reader
def alerts(request: HttpRequest) -> HttpResponse:
    """Unresolved alerts, the worst first; `resolved=1` shows all."""
    rows = Alert.objects.annotate(rank=BY_SEVERITY)
    with_resolved = request.GET.get("resolved") == "1"
    if not with_resolved:
        rows = rows.filter(resolved_at__isnull=True)
    severity = request.GET.get("severity", "")
    if severity in Severity.values:
        rows = rows.filter(severity=severity)
    listed = table(request, rows, sorts=ALERT_SORTS, default="severity", search=("title", "message", "object_name"))
    template = "console/_alerts.html" if is_fragment(request) else "console/alerts.html"
    context = {
        "nav": "Alerts",
        "table": listed,
        "with_resolved": with_resolved,
        "severity": severity,
        "severities": Severity.choices,
    }
    return show(request, template, context)


def _press_alert(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    alert = get_object_or_404(Alert, pk=pk)

    def order(_key: str) -> str:
        service = alert_services.acknowledge if verb == "acknowledged" else alert_services.resolve_alert
        service(alert, actor=actor_of(request))
        return f"Alert “{alert.title}” {verb}."

    return press(request, back_url(request, reverse("console:alerts")), order)


@require_POST
@operator
def acknowledge(request: HttpRequest, pk: int) -> HttpResponse:
    """Somebody looks after it."""
    return _press_alert(request, pk, "acknowledged")


@require_POST
@operator
def resolve(request: HttpRequest, pk: int) -> HttpResponse:
    """It is over; it comes back when its condition does."""
    return _press_alert(request, pk, "resolved")


@reader
def events(request: HttpRequest) -> HttpResponse:
    """What happened."""
    listed = table(
        request,
        Event.objects.all(),
        sorts=EVENT_SORTS,
        default="-at",
        search=("kind", "message", "object_name"),
        page_rows=50,
        newest=SEARCHED_ROWS,
    )
    exported = export(request, listed, EVENT_COLUMNS, name="events")
    return exported or show(
        request, "console/events.html", {"nav": "Events", "table": listed, "searched": SEARCHED_ROWS}
    )


def _day(request: HttpRequest) -> datetime | None:
    """Midnight of the day that the address names, in the user's zone; None: no day, or none that exists."""
    try:
        day = datetime.strptime(request.GET.get("day", ""), "%Y-%m-%d")
        return day.replace(tzinfo=zone_of(request)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


@reader
def audit(request: HttpRequest) -> HttpResponse:
    """Who ordered what, from where, and what became of it."""
    rows = AuditRow.objects.all()
    outcome = request.GET.get("outcome", "")
    if outcome in Outcome.values:
        rows = rows.filter(outcome=outcome)
    day = _day(request)
    if day is not None:
        rows = rows.filter(at__gte=day, at__lt=day + timedelta(days=1))
    listed = table(
        request,
        rows,
        sorts=AUDIT_SORTS,
        default="-at",
        search=("actor", "verb", "object_name", "address"),
        page_rows=50,
        newest=SEARCHED_ROWS if day is None else 0,
    )
    exported = export(request, listed, AUDIT_COLUMNS, name="audit")
    return exported or show(
        request,
        "console/audit.html",
        {
            "nav": "Audit",
            "table": listed,
            "outcome": outcome,
            "outcomes": Outcome.choices,
            "day": "" if day is None else request.GET["day"],
            "searched": SEARCHED_ROWS,
        },
    )
