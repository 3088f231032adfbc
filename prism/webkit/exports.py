# SPDX-License-Identifier: Apache-2.0
"""The gear of a table: all rows that the search leaves, on all pages, as CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse

from prism.webkit.tables import Table

FORMATS = ("csv", "json")
ROWS_MAX = 10_000
# A spreadsheet takes a cell that begins like this for a formula; names come from other people.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Columns = Mapping[str, Callable[[Any], Any]]


def export(request: HttpRequest, table: Table, columns: Columns, *, name: str) -> HttpResponse | None:
    """The file when the address asks for one (`export=csv` or `json`), else None. At most `ROWS_MAX` rows."""
    wanted = request.GET.get(table.prefix + "export", "")
    if wanted not in FORMATS:
        return None
    rows = [
        {title: _plain(value(row)) for title, value in columns.items()}
        for row in table.page.paginator.object_list[:ROWS_MAX]
    ]
    return as_file(list(columns), rows, wanted, name=name)


def as_file(titles: list[str], rows: list[dict[str, Any]], wanted: str, *, name: str) -> HttpResponse:
    """`rows` to be saved as CSV or JSON; their values are plain."""
    text = json.dumps(rows, indent=1) if wanted == "json" else _csv(titles, rows)
    kind = "application/json" if wanted == "json" else "text/csv; charset=utf-8"
    response = HttpResponse(text, content_type=kind)
    response["Content-Disposition"] = f'attachment; filename="{name}.{wanted}"'
    response["Cache-Control"] = "private, no-store"
    return response


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _csv(titles: list[str], rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(titles)
    for row in rows:
        writer.writerow([_safe(row[title]) for title in titles])
    return text.getvalue()


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
