# SPDX-License-Identifier: Apache-2.0
"""Tasks, events, alerts, audit rows, tokens, this site."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from prism.core.api import serializers
from prism.core.api.base import actor_of, checked
from prism.core.api.resource import Resource
from prism.core.models import Alert, ApiToken, AuditRow, Event, Measurement, Task
from prism.core.services import alerts, tokens
from prism.core.services.sites import this_site

SEARCHED_ROWS = 100_000
"""How far back a search or another sort goes through tables that only grow."""


class TaskViewSet(Resource, viewsets.ReadOnlyModelViewSet[Task]):
    """Long work. Filters: `state`, `kind`, `object_id`."""

    queryset = Task.objects.all()
    serializer_class = serializers.TaskSerializer
    filters = {"state": "state", "kind": "kind", "object_id": "object_id"}
    search = ("kind", "object_name", "actor", "message")
    sorts = {
        "task": "kind",
        "object": "object_name",
        "state": "state",
        "created": "created_at",
        "finished": "finished_at",
        "by": "actor",
    }


class EventViewSet(Resource, viewsets.ReadOnlyModelViewSet[Event]):
    """What happened. Filters: `kind`, `object_id`, `severity`."""

    queryset = Event.objects.all()
    serializer_class = serializers.EventSerializer
    filters = {"kind": "kind", "object_id": "object_id", "severity": "severity"}
    search = ("kind", "message", "object_name")
    sorts = {"at": "at", "kind": "kind", "object": "object_name"}
    newest = SEARCHED_ROWS


class MeasurementViewSet(Resource, mixins.ListModelMixin, viewsets.GenericViewSet[Measurement]):
    """Numbers over time, newest first, one row a step; what was not measured has none. A month is kept.

    `series` is `capacity.used` or `capacity.free` (bytes, every 5 min, subject empty), `sent` (bytes on the wire in a
    minute; subject: uuid of the remote site or of the protection domain) or `latency` (microseconds of a remote site's
    last answer in a minute). Filters: `series`, `subject`, `since` (a time).
    """

    queryset = Measurement.objects.order_by("-at", "pk")
    serializer_class = serializers.MeasurementSerializer
    filters = {"series": "series", "subject": "subject", "since": "at__gte"}


class AuditViewSet(Resource, viewsets.ReadOnlyModelViewSet[AuditRow]):
    """Who ordered what. Filters: `verb`, `actor`, `outcome`, and the times `since` (included) and `until` (not)."""

    queryset = AuditRow.objects.all()
    serializer_class = serializers.AuditRowSerializer
    filters = {"verb": "verb", "actor": "actor", "outcome": "outcome", "since": "at__gte", "until": "at__lt"}
    search = ("actor", "verb", "object_name", "address")
    sorts = {"at": "at", "actor": "actor", "verb": "verb", "object": "object_name", "outcome": "outcome"}
    newest = SEARCHED_ROWS


class AlertViewSet(Resource, viewsets.ReadOnlyModelViewSet[Alert]):
    """What needs somebody. Filters: `kind`, `severity`, `object_id`, `unresolved`."""

    queryset = Alert.objects.all()
    serializer_class = serializers.AlertSerializer
    filters = {
        "kind": "kind",
        "severity": "severity",
        "object_id": "object_id",
        "unresolved": "resolved_at__isnull",
    }
    search = ("title", "message", "object_name")
    sorts = {"title": "title", "object": "object_name", "raised": "raised_at"}

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def acknowledge(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(alerts.acknowledge(self.get_object(), actor=actor_of(request))).data)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(alerts.resolve_alert(self.get_object(), actor=actor_of(request))).data)


class TokenViewSet(Resource, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[ApiToken]):
    """The caller's own tokens."""

    shown_once = frozenset({"create"})

    permission_classes = [IsAuthenticated]  # a token gives no more than its owner has
    queryset = ApiToken.objects.none()
    serializer_class = serializers.ApiTokenSerializer

    def get_queryset(self) -> QuerySet[ApiToken]:
        user = self.request.user
        return ApiToken.objects.filter(user=user) if user.is_authenticated else ApiToken.objects.none()

    @extend_schema(request=serializers.NewTokenSerializer, responses={201: serializers.MadeTokenSerializer})
    def create(self, request: Request) -> Response:
        values = checked(serializers.NewTokenSerializer, request)
        token, text = tokens.create(user=request.user, actor=actor_of(request), **values)  # type: ignore[arg-type]
        return Response({**self.get_serializer(token).data, "token": text}, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """The token stops working at once."""
        tokens.revoke(self.get_object(), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


class SiteViewSet(Resource, viewsets.ViewSet):
    """Who this site is."""

    @extend_schema(responses=serializers.SiteSerializer)
    def retrieve(self, request: Request) -> Response:
        return Response(serializers.SiteSerializer(this_site()).data)
