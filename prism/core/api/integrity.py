# SPDX-License-Identifier: Apache-2.0
"""Whether what is stored is whole."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from prism.core.api.base import actor_of
from prism.core.api.resource import Resource
from prism.core.services import integrity


class LogDamageSerializer(serializers.Serializer[Any]):
    """Where the log breaks off; `heads_lost`: disks answer EIO, otherwise they can be read until the next restart."""

    position = serializers.IntegerField()
    heads_lost = serializers.BooleanField()
    message = serializers.CharField()


class IntegritySerializer(serializers.Serializer[Any]):
    """`damaged`: parts that no site has whole, `findings` the first 20 in words. `unfoldable`: versions of disks that
    cannot be replicated because of it. `oldest_unchecked_seconds` null = nothing is stored; `last_pass_at` null = not
    everything was read yet. `asked_left`: of `parts`, those that a scrub ordered here still has to read.
    """

    damaged = serializers.IntegerField()
    healed = serializers.IntegerField()
    findings = serializers.ListField(child=serializers.CharField())
    unfoldable = serializers.IntegerField()
    oldest_unchecked_seconds = serializers.FloatField(allow_null=True)
    last_pass_at = serializers.DateTimeField(allow_null=True)
    parts = serializers.IntegerField()
    asked_left = serializers.IntegerField()


class SiteIntegritySerializer(IntegritySerializer):
    """`log_damage` null: the log is whole."""

    log_damage = LogDamageSerializer(allow_null=True)


class IntegrityViewSet(Resource, viewsets.ViewSet):
    """What the scrub knows, and "Scrub now"."""

    @extend_schema(responses=SiteIntegritySerializer)
    def retrieve(self, request: Request) -> Response:
        damage = integrity.log_damage()
        body = {**asdict(integrity.integrity()), "log_damage": asdict(damage) if damage else None}
        return Response(SiteIntegritySerializer(body).data)

    @extend_schema(request=None, responses={202: IntegritySerializer})
    def scrub(self, request: Request) -> Response:
        """Read everything now, in the background; `asked_left` of the answer to GET says how far it is."""
        found = integrity.scrub_now(actor=actor_of(request))
        return Response(IntegritySerializer(asdict(found)).data, status=status.HTTP_202_ACCEPTED)
