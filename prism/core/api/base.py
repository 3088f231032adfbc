# SPDX-License-Identifier: Apache-2.0
"""Small helpers of all views."""

from __future__ import annotations

from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from rest_framework import status
from rest_framework.filters import BaseFilterBackend
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from prism.core.actor import Actor
from prism.core.api.serializers import TaskSerializer
from prism.core.choices import ActorSource
from prism.core.exceptions import InvalidInput
from prism.core.models import Task
from prism.webkit import tables
from prism.webkit.tables import SEARCH_CHARACTERS_MAX

M = TypeVar("M", bound=Model)
R = TypeVar("R")
KEY_CHARS_MAX = 128


class Pages(PageNumberPagination):
    """`?page=` and `?page_size=`."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500


class Filters(BaseFilterBackend):
    """A view's `filters` maps a query parameter to the column it must equal.

    Of lists, `?q=` searches the columns of `search` and `?sort=` takes a word of `sorts`, as in the console's table of
    the same rows; `newest` bounds both to so many rows of a table that only grows (0 = all of them).
    """

    def filter_queryset(self, request: Request, queryset: QuerySet[M, R], view: APIView) -> QuerySet[M, R]:
        for name, column in _filters(view).items():
            value = request.query_params.get(name)
            if value is not None:
                queryset = _narrowed(queryset, name, column, value)
        return _looked_through(request, queryset, view) if getattr(view, "action", None) == "list" else queryset

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """What the OpenAPI document says of them."""
        found: dict[str, dict[str, Any]] = {name: {"type": "string"} for name in _filters(view)}
        if getattr(view, "search", ()):
            found["q"] = {"type": "string", "maxLength": SEARCH_CHARACTERS_MAX}
        if sorts := getattr(view, "sorts", {}):
            found["sort"] = {"type": "string", "enum": [minus + word for word in sorts for minus in ("", "-")]}
        return [{"name": name, "in": "query", "required": False, "schema": shape} for name, shape in found.items()]


def _filters(view: APIView) -> dict[str, str]:
    found: dict[str, str] = getattr(view, "filters", {})
    return found


def _looked_through(request: Request, rows: QuerySet[M, R], view: APIView) -> QuerySet[M, R]:
    search, sorts, newest = getattr(view, "search", ()), getattr(view, "sorts", {}), getattr(view, "newest", 0)
    query, sort = tables.searched_for(request.query_params.get("q", "")), request.query_params.get("sort", "")
    if sort and sort.removeprefix("-") not in sorts:
        words = ", ".join(sorts) or "nothing"
        raise InvalidInput("sort", f"This list is sorted by {words}; a minus in front sorts downwards.")
    if newest and (query or sort):
        rows = tables.newest_of(rows, newest)
    if query and search:
        rows = rows.filter(tables.matching(query, search))
    return tables.in_order(rows, sort, sorts) if sort else rows


def _narrowed(rows: QuerySet[M, R], name: str, column: str, value: str) -> QuerySet[M, R]:
    if column.endswith("__isnull"):
        return rows.filter(**{column: value.lower() in {"1", "true", "yes"}})
    if "\x00" in value:
        raise InvalidInput(name, "A value has no null characters.")
    try:
        return rows.filter(**{column: value})
    except (ValueError, TypeError, ValidationError) as error:
        raise InvalidInput(name, f"{value!r} is not a value of this filter.") from error


def actor_of(request: Request) -> Actor:
    """The orderer of a request."""
    return Actor.from_user(request.user, source=ActorSource.API, address=request.META.get("REMOTE_ADDR") or "")


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key header, scoped to its user; None without one."""
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > KEY_CHARS_MAX:
        raise InvalidInput("Idempotency-Key", f"The key has at most {KEY_CHARS_MAX} characters.")
    return f"api:{request.user.pk}:{key}" if key else None


def checked(serializer: type[Serializer[Any]], request: Request, *, partial: bool = False) -> dict[str, Any]:
    """The body, as `serializer` reads it; raises DRF's ValidationError (422)."""
    found = serializer(data=request.data, partial=partial, context={"request": request})
    found.is_valid(raise_exception=True)
    return dict(found.validated_data)


def accepted(task: Task, request: Request) -> Response:
    """202 with the task that does the work."""
    task.refresh_from_db()
    data = TaskSerializer(task, context={"request": request}).data
    return Response({"task": data}, status=status.HTTP_202_ACCEPTED, headers={"Location": f"/api/v1/tasks/{task.pk}/"})
