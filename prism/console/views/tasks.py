# SPDX-License-Identifier: Apache-2.0
"""Long work: the list with live progress, and one task with its children."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from prism.core.choices import TaskState
from prism.core.models import Task
from prism.webkit.access import reader
from prism.webkit.exports import Columns, export
from prism.webkit.pages import is_fragment, show
from prism.webkit.tables import table

SORTS = {
    "task": "kind",
    "object": "object_name",
    "state": "state",
    "created": "created_at",
    "finished": "finished_at",
    "by": "actor",
}
OPEN_SHOWN = 50
ENDED_SHOWN = 10
COLUMNS: Columns = {
    "uuid": lambda row: row.pk,
    "kind": lambda row: row.kind,
    "object": lambda row: row.object_name,
    "state": lambda row: row.state,
    "message": lambda row: row.error or row.message,
    "phase": lambda row: row.phase,
    "done_bytes": lambda row: row.done_bytes,
    "total_bytes": lambda row: row.total_bytes,
    "bytes_per_second": lambda row: row.pace.rate,
    "seconds_left": lambda row: row.pace.seconds_left,
    "stalled_since": lambda row: row.pace.stalled_since,
    "waits_for": lambda row: row.pace.waits_for,
    "ordered_by": lambda row: row.actor,
    "created_at": lambda row: row.created_at,
    "finished_at": lambda row: row.finished_at,
}


@reader
def tasks(request: HttpRequest) -> HttpResponse:
    """All tasks, newest first; `state` of the address filters."""
    rows = Task.objects.all()
    state = request.GET.get("state", "")
    if state in TaskState.values:
        rows = rows.filter(state=state)
    listed = table(request, rows, sorts=SORTS, default="-created", search=("kind", "object_name", "actor", "message"))
    exported = export(request, listed, COLUMNS, name="tasks")
    if exported is not None:
        return exported
    template = "console/_tasks.html" if is_fragment(request) else "console/tasks.html"
    return show(request, template, {"nav": "Tasks", "table": listed, "state": state, "states": TaskState.choices})


@reader
def drawer(request: HttpRequest) -> HttpResponse:
    """What the drawer beside every page shows: what runs, then what is queued, then the last that ended."""
    unfinished = Task.objects.filter(state__in=[TaskState.QUEUED, TaskState.RUNNING])
    shown = {
        "nav": "Tasks",
        "open": unfinished.order_by("-state", "-created_at")[:OPEN_SHOWN],  # "running" comes before "queued" then
        "open_count": unfinished.count(),
        "ended": Task.objects.filter(finished_at__isnull=False).order_by("-finished_at")[:ENDED_SHOWN],
    }
    return show(request, "console/_drawer.html" if is_fragment(request) else "console/drawer.html", shown)


@reader
def task(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """One task."""
    found = get_object_or_404(Task.objects.select_related("parent"), pk=uuid)
    template = "console/_task.html" if is_fragment(request) else "console/task.html"
    return show(
        request, template, {"nav": "Tasks", "task": found, "children": found.children.order_by("created_at")[:100]}
    )
