# SPDX-License-Identifier: Apache-2.0
"""Thin: each action calls the service of its name."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from prism.core.api.base import actor_of, checked
from prism.core.api.resource import Resource
from replication.api import serializers
from replication.models import RemoteSite, Replication
from replication.services import remote_sites, replications


class RemoteSiteViewSet(Resource, viewsets.ReadOnlyModelViewSet[RemoteSite]):
    """Remote sites: CRUD, pairing, test."""

    shown_once = frozenset({"pairing_code"})
    queryset = RemoteSite.objects.all()
    serializer_class = serializers.RemoteSiteSerializer
    lookup_field = "uuid"
    search = ("name",)
    sorts = {"name": "name", "capability": "capability", "status": "status", "latency": "latency_seconds"}
    observed = frozenset({"status", "latency_seconds", "last_seen_at", "peer_info"})

    @extend_schema(request=serializers.RemoteSiteOrderSerializer, responses={201: serializers.RemoteSiteSerializer})
    def create(self, request: Request) -> Response:
        values = checked(serializers.RemoteSiteOrderSerializer, request)
        site = remote_sites.create(actor=actor_of(request), **values)
        return Response(self.get_serializer(site).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=serializers.RemoteSiteOrderSerializer(partial=True))
    def partial_update(self, request: Request, uuid: str) -> Response:
        values = checked(serializers.RemoteSiteOrderSerializer, request, partial=True)
        site = remote_sites.update(self.get_object(), actor=actor_of(request), **values)
        return Response(self.get_serializer(site).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, uuid: str) -> Response:
        remote_sites.remove(self.get_object(), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["post"])
    def test(self, request: Request, uuid: str) -> Response:
        """Ask the site now."""
        return Response(remote_sites.test_connection(self.get_object(), actor=actor_of(request)))

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def unpair(self, request: Request, uuid: str) -> Response:
        """End the pairing on both sites."""
        return Response(self.get_serializer(remote_sites.unpair(self.get_object(), actor=actor_of(request))).data)

    @extend_schema(request=None, responses={201: serializers.PairingOfferSerializer})
    @action(detail=False, methods=["post"], url_path="pairing-code")
    def pairing_code(self, request: Request) -> Response:
        """Show a one-time code for another site."""
        offer = remote_sites.start_pairing(actor=actor_of(request))
        return Response(serializers.PairingOfferSerializer(offer).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=serializers.PairSerializer)
    @action(detail=False, methods=["post"])
    def pair(self, request: Request) -> Response:
        """Pair with the site that shows a code."""
        values = checked(serializers.PairSerializer, request)
        return Response(self.get_serializer(remote_sites.pair(actor=actor_of(request), **values)).data)


class ReplicationViewSet(
    Resource, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Replication]
):
    """Replications of both directions; filters: `state`, `direction`, `domain` (uuid), `snapshot` (uuid)."""

    queryset = Replication.objects.select_related("site").defer("manifest")
    serializer_class = serializers.ReplicationSerializer
    lookup_field = "uuid"

    filters = {"state": "state", "direction": "direction", "domain": "domain_uuid", "snapshot": "snapshot_uuid"}
    search = ("display_id", "site__name")
    sorts = {
        "id": "display_id",
        "site": "site__name",
        "state": "state",
        "created": "created_at",
        "done": "done_bytes",
    }

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, uuid: str) -> Response:
        return Response(self.get_serializer(replications.pause(self.get_object(), actor=actor_of(request))).data)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, uuid: str) -> Response:
        return Response(self.get_serializer(replications.resume(self.get_object(), actor=actor_of(request))).data)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def abort(self, request: Request, uuid: str) -> Response:
        return Response(self.get_serializer(replications.abort(self.get_object(), actor=actor_of(request))).data)
