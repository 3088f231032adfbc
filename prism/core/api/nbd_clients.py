# SPDX-License-Identifier: Apache-2.0
"""Certificates of NBD clients."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from prism.core.api.base import actor_of, checked
from prism.core.api.resource import Resource
from prism.core.choices import NbdClientState
from prism.core.services import nbd_clients


class NbdClientSerializer(serializers.Serializer[Any]):
    """`state`: good, expired or revoked. `fingerprint`: SHA-256 of the certificate, hex."""

    name = serializers.CharField()
    state = serializers.ChoiceField(choices=NbdClientState.choices)
    fingerprint = serializers.CharField()
    issued_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    revoked_at = serializers.DateTimeField(allow_null=True)


class NewNbdClientSerializer(serializers.Serializer[None]):
    """Body of create."""

    name = serializers.CharField(max_length=64)
    days = serializers.IntegerField(required=False, default=nbd_clients.DAYS_DEFAULT, min_value=1, max_value=3650)


class MadeNbdClientSerializer(NbdClientSerializer):
    """Answer of create: `files` (name -> PEM text) is told this once."""

    files = serializers.DictField(child=serializers.CharField())


class NbdClientViewSet(Resource, viewsets.ViewSet):
    """Who may open this site's disks over TLS, where NBD needs it."""

    shown_once = frozenset({"create"})
    lookup_field = "name"
    lookup_value_regex = r"[A-Za-z0-9._-]+"

    @extend_schema(responses=NbdClientSerializer(many=True))
    def list(self, request: Request) -> Response:
        return Response([NbdClientSerializer(asdict(client)).data for client in nbd_clients.clients()])

    @extend_schema(request=NewNbdClientSerializer, responses={201: MadeNbdClientSerializer})
    def create(self, request: Request) -> Response:
        values = checked(NewNbdClientSerializer, request)
        made = nbd_clients.issue(actor=actor_of(request), **values)
        body = {**asdict(made.client), "files": made.files}
        return Response(MadeNbdClientSerializer(body).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={200: NbdClientSerializer})
    def destroy(self, request: Request, name: str) -> Response:
        """Revokes it: its connections end now."""
        return Response(NbdClientSerializer(asdict(nbd_clients.revoke(name, actor=actor_of(request)))).data)
