# SPDX-License-Identifier: Apache-2.0
"""States that `accept-loss` kept (design note 0007)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from dataprotection.services import kept
from prism.core.api.base import actor_of
from prism.core.api.resource import Resource
from prism.core.exceptions import NotFound

BY_UUID = OpenApiParameter("id", OpenApiTypes.UUID, OpenApiParameter.PATH)


class KeptDiskSerializer(serializers.Serializer[Any]):
    """`role` is that of the disk now, "" = it is deleted; `nbd_uri`: the kept bytes, read-only."""

    uuid = serializers.UUIDField()
    size_bytes = serializers.IntegerField()
    role = serializers.CharField()
    can_come_back = serializers.BooleanField()
    nbd_uri = serializers.CharField()


class KeptSerializer(serializers.Serializer[Any]):
    """All disks as they were before a damaged part of the log; `position`: where that broke off, null = unknown."""

    uuid = serializers.UUIDField()
    created_at = serializers.DateTimeField()
    position = serializers.IntegerField(allow_null=True)
    disks = KeptDiskSerializer(many=True)


class BroughtBackSerializer(serializers.Serializer[Any]):
    """Uuids of the disks that are served again."""

    disks = serializers.ListField(child=serializers.UUIDField())


class KeptViewSet(Resource, viewsets.ViewSet):
    """What was kept when the loss of a part of the log was accepted. Usually empty."""

    @extend_schema(responses=KeptSerializer(many=True))
    def list(self, request: Request) -> Response:
        return Response(KeptSerializer(kept.all_kept(), many=True).data)

    @extend_schema(request=None, responses=BroughtBackSerializer, parameters=[BY_UUID])
    @action(detail=True, methods=["post"], url_path="bring-back")
    def bring_back(self, request: Request, pk: str) -> Response:
        """Serve the disks that are down as they were before the damage."""
        disks = kept.bring_back(_key(pk), actor=actor_of(request))
        return Response(BroughtBackSerializer({"disks": [disk.pk for disk in disks]}).data)

    @extend_schema(responses={204: None}, parameters=[BY_UUID])
    def destroy(self, request: Request, pk: str) -> Response:
        """Give the state up; its space comes back with the next sweep."""
        kept.delete(_key(pk), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _key(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("There is no such kept state.") from None
