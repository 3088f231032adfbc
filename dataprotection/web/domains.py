# SPDX-License-Identifier: Apache-2.0
"""The Data Protection page: the Async DR table, and a selected domain below it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from dataprotection.models import ProtectionDomain
from dataprotection.web.panes import pane_export, pane_of, snapshots_of
from dataprotection.web.reasons import reasons_of
from dataprotection.web.rows import annotated, domain_rows
from prism.webkit.access import reader
from prism.webkit.exports import Columns, export
from prism.webkit.pages import is_fragment, show
from prism.webkit.tables import table
from replication.models import RemoteSite, Replication
from replication.states import ReplicationState

SORTS = {"name": "name", "entities": "entity_total", "next": "next_at"}
COLUMNS: Columns = {
    "name": lambda row: row.name,
    "mode": lambda row: row.mode,
    "entity_count": lambda row: row.entity_total,
    "next_snapshot_time": lambda row: row.next_at,
}


def _table_context(request: HttpRequest) -> dict[str, Any]:
    found = table(
        request, annotated(), sorts=SORTS, default="name", search=("name",), counted=ProtectionDomain.objects.all()
    )
    return {"nav": "Data Protection", "domains": found, "rows": domain_rows(list(found.rows))}


@reader
def domains(request: HttpRequest) -> HttpResponse:
    """The table; as a fragment only its rows (`selected` of the address keeps the highlighted one)."""
    context = _table_context(request)
    found = export(request, context["domains"], COLUMNS, name="protection-domains")
    if found is not None:
        return found
    if is_fragment(request):
        return show(
            request, "dataprotection/_domain_rows.html", {**context, "selected": request.GET.get("selected", "")}
        )
    return show(request, "dataprotection/domains.html", context)


@reader
def domain(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """A selected row: action links, summary and lower tabs; as a fragment only the tab."""
    found = get_object_or_404(annotated(), pk=uuid)
    entities = found.entity_total  # type: ignore[attr-defined]
    context = {"domain": found, "selected": str(found.pk), **pane_of(request, found)}
    exported = pane_export(request, found, context)
    if exported is not None:
        return exported
    if is_fragment(request):
        return show(request, context["pane_template"], context)
    points = snapshots_of(found, include_expired=False)
    newest = points.order_by("-created_at").first()
    reasons = reasons_of(
        found, entities=entities, restore_points=1 if newest else 0, sites=list(RemoteSite.objects.all())
    )
    last = Replication.objects.filter(domain_uuid=found.pk, state=ReplicationState.SUCCEEDED).select_related("site")
    summary = {
        "row": domain_rows([found])[0],
        "newest": newest,
        "reasons": reasons,
        "last": last.order_by("-finished_at").first(),
    }
    return show(request, "dataprotection/domain.html", {**_table_context(request), **context, **summary})
