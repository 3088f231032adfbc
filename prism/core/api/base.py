# SPDX-License-Identifier: Apache-2.0
"""Small helpers of all views."""

from __future__ import annotations

from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from rest_framework import status
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from prism.core.actor import Actor
from prism.core.api.serializers import TaskSerializer
from prism.core.choices import ActorSource
from prism.core.exceptions import InvalidInput
from prism.core.models import Task

M = TypeVar("M", bound=Model)
KEY_CHARS_MAX = 128


class Pages(PageNumberPagination):
    """`?page=` and `?page_size=`."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500


class Filters:
    """Mixin of list views: `filters` maps a query parameter to the column it must equal."""

    filters: dict[str, str] = {}

    def filter_queryset(self, queryset: QuerySet[M]) -> QuerySet[M]:
        found: QuerySet[M] = super().filter_queryset(queryset)  # type: ignore[misc]
        for name, column in self.filters.items():
            value = self.request.query_params.get(name)  # type: ignore[attr-defined]
            if value is not None:
                found = _narrowed(found, name, column, value)
        return found


def _narrowed(rows: QuerySet[M], name: str, column: str, value: str) -> QuerySet[M]:
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
