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

M = TypeVar("M", bound=Model)
R = TypeVar("R")
KEY_CHARS_MAX = 128


class Pages(PageNumberPagination):
    """`?page=` and `?page_size=`."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500


class Filters(BaseFilterBackend):
    """A view's `filters` maps a query parameter to the column it must equal."""

    def filter_queryset(self, request: Request, queryset: QuerySet[M, R], view: APIView) -> QuerySet[M, R]:
        for name, column in _filters(view).items():
            value = request.query_params.get(name)
            if value is not None:
                queryset = _narrowed(queryset, name, column, value)
        return queryset

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """What the OpenAPI document says of them."""
        return [
            {"name": name, "in": "query", "required": False, "schema": {"type": "string"}} for name in _filters(view)
        ]


def _filters(view: APIView) -> dict[str, str]:
    found: dict[str, str] = getattr(view, "filters", {})
    return found


def _narrowed(rows: QuerySet[M, R], name: str, column: str, value: str) -> QuerySet[M, R]:
    if column.endswith("__isnull"):
        return rows.filter(**{column: value.lower() in {"1", "true", "yes"}})
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
