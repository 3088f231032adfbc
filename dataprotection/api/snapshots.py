# SPDX-License-Identifier: Apache-2.0
"""Snapshots: list, restore, clone, delete, retain, read out."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from dataprotection import selectors
from dataprotection.api import serializers as shapes
from dataprotection.api.inventory import AnyAnswer
from dataprotection.choices import SnapshotState
from dataprotection.models import OneTimeSnapshot, Snapshot
from dataprotection.services import images, restore, snapshots, space
from prism.core.api.base import accepted, actor_of, checked, idempotency_key
from prism.core.api.resource import Resource
from prism.core.api.serializers import AcceptedSerializer
from prism.core.engine import engine
from prism.core.exceptions import InvalidInput
from prism.webkit.downloads import attachment
from prism.webkit.permissions import Operate


class SnapshotViewSet(Resource, viewsets.ReadOnlyModelViewSet[Snapshot]):
    """Filters: `domain`, `state`, `kind`, `id`; `include_expired=true` also lists expired ones."""

    queryset = Snapshot.objects.filter(hidden_base=False)
    observed = frozenset({"exclusive_usage_in_bytes"})
    filters = {"domain": "domain", "state": "state", "kind": "kind", "id": "display_id"}
    search = ("display_id", "kind")
    sorts = {"id": "local_id", "create": "created_at", "reclaimable": "reclaimable_bytes", "expiry": "expires_at"}

    def get_serializer_class(self) -> Any:
        return shapes.SnapshotDetailSerializer if self.action == "retrieve" else shapes.SnapshotSerializer

    def get_queryset(self) -> QuerySet[Snapshot]:
        rows = super().get_queryset()
        wanted = self.request.query_params
        if self.action == "list" and wanted.get("include_expired", "").lower() not in {"1", "true", "yes"}:
            rows = rows.exclude(state=SnapshotState.EXPIRED)
        return rows.defer("manifest") if self.action == "list" else rows

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        snapshots.delete(self.get_object(), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(parameters=[shapes.WhatIfQuerySerializer], responses=shapes.ForecastSerializer)
    @action(detail=False, methods=["get"], url_path="what-if")
    def what_if(self, request: Request) -> Response:
        """What deleting these snapshots together gives back (`?snapshots=a&snapshots=b`, or `?domain=` for all of it).

        Exact as of `scanned_at`, or an estimate; null = not known yet.
        """
        query = shapes.WhatIfQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        wanted, domain = query.validated_data.get("snapshots", []), query.validated_data.get("domain")
        rows = Snapshot.objects.exclude(state=SnapshotState.DELETING)
        rows = rows.filter(domain=domain) if domain is not None else rows.filter(pk__in=wanted)
        keys = list(rows.values_list("pk", flat=True))
        if domain is None and len(keys) < len(set(wanted)):
            raise InvalidInput("snapshots", "Not all of these snapshots exist.")
        return Response(shapes.ForecastSerializer(space.what_if(keys).as_dict()).data)

    @extend_schema(request=shapes.OverwriteSerializer, responses={202: AcceptedSerializer})
    @action(detail=True, methods=["post"])
    def restore(self, request: Request, pk: str) -> Response:
        """Overwrite existing entities; a safety snapshot is taken first."""
        values = checked(shapes.OverwriteSerializer, request)
        task = restore.overwrite(
            self.get_object(),
            entity_uuids=values.get("entities"),
            disconnect_writers=values["disconnect_writers"],
            actor=actor_of(request),
            idempotency_key=idempotency_key(request),
        )
        return accepted(task, request)

    @extend_schema(request=shapes.CloneSerializer, responses={202: AcceptedSerializer})
    @action(detail=True, methods=["post"])
    def clone(self, request: Request, pk: str) -> Response:
        """Create new entities with prefixes."""
        values = checked(shapes.CloneSerializer, request)
        chosen = values.pop("entities", None)
        key = idempotency_key(request)
        task = restore.clone(
            self.get_object(), entity_uuids=chosen, actor=actor_of(request), idempotency_key=key, **values
        )
        return accepted(task, request)

    @extend_schema(request=shapes.RetainSerializer)
    @action(detail=True, methods=["post"])
    def retain(self, request: Request, pk: str) -> Response:
        values = checked(shapes.RetainSerializer, request)
        return Response(
            self.get_serializer(snapshots.retain(self.get_object(), actor=actor_of(request), **values)).data
        )

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["get"])
    def recoverability(self, request: Request, pk: str) -> Response:
        """Per entity: whether it can be recovered here and at each remote site, and if not, why."""
        return Response({"entities": [row.as_dict() for row in selectors.recoverability(self.get_object())]})

    @extend_schema(parameters=[shapes.RangesQuerySerializer], responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["get"], url_path="changed-ranges")
    def changed_ranges(self, request: Request, pk: str) -> Response:
        """What changed on a disk since an older snapshot (without `since`: what is not zero). For backup tools."""
        query = shapes.RangesQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        values = query.validated_data
        since = str(values["since"]) if values.get("since") else None
        found = engine().changed_ranges(
            str(self.get_object().uuid), str(values["disk"]), since=since, start=values["start"], limit=values["limit"]
        )
        return Response(found)

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    @action(
        detail=True,
        methods=["get"],
        content_negotiation_class=AnyAnswer,
        permission_classes=[Operate],
        url_path="disks/(?P<disk>[0-9a-f-]+)/raw",
    )
    def export_disk(self, request: Request, pk: str, disk: str) -> StreamingHttpResponse:
        """The disk as it was."""
        row = self.get_object()
        parts = images.export_snapshot_disk(row, disk)
        sizes = {found["uuid"]: found["size_bytes"] for entity in row.manifest["entities"] for found in entity["disks"]}
        return attachment(parts, size_bytes=sizes[disk], name=f"{row.display_id}-{disk}.raw")


class OneTimeViewSet(Resource, viewsets.ReadOnlyModelViewSet[OneTimeSnapshot]):
    """One-time orders. Filters: `domain`, `state`."""

    queryset = OneTimeSnapshot.objects.prefetch_related("sites")
    serializer_class = shapes.OneTimeSerializer
    filters = {"domain": "domain", "state": "state"}

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Give up an order that has not started."""
        snapshots.cancel(self.get_object(), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)
