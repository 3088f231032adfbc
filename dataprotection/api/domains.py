# SPDX-License-Identifier: Apache-2.0
"""Protection domains and their schedules."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from dataprotection.api import serializers as shapes
from dataprotection.models import VM, ProtectedEntity, ProtectionDomain, Schedule, StoredFile, VolumeGroup
from dataprotection.services import activation, domains, migrate, protection, schedules, snapshots
from dataprotection.services.membership import Entity
from prism.core.api.base import accepted, actor_of, checked, idempotency_key
from prism.core.api.resource import Resource
from prism.core.api.serializers import AcceptedSerializer
from prism.core.exceptions import InvalidInput


class DomainViewSet(Resource, viewsets.ReadOnlyModelViewSet[ProtectionDomain]):
    """Filters: `name`, `mode`, `phase`. Orders that take longer answer 202 with a task; send an Idempotency-Key."""

    queryset = ProtectionDomain.objects.select_related("whole_container").prefetch_related("entities__group", "groups")
    serializer_class = shapes.DomainSerializer
    filters = {"name": "name", "mode": "mode", "phase": "phase"}
    search = ("name",)
    sorts = {"name": "name"}

    def _answer(self, domain: ProtectionDomain, code: int = status.HTTP_200_OK) -> Response:
        fresh = self.get_queryset().get(pk=domain.pk)
        return Response(self.get_serializer(fresh).data, status=code)

    @extend_schema(request=shapes.NameSerializer, responses={201: shapes.DomainSerializer})
    def create(self, request: Request) -> Response:
        domain = domains.create(actor=actor_of(request), **checked(shapes.NameSerializer, request))
        return self._answer(domain, status.HTTP_201_CREATED)

    @extend_schema(request=shapes.ChangeDomainSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        values = checked(shapes.ChangeDomainSerializer, request)
        return self._answer(domains.update(self.get_object(), actor=actor_of(request), **values))

    @extend_schema(responses={202: shapes.DomainSerializer})
    def destroy(self, request: Request, pk: str) -> Response:
        """Mark for removal; it disappears with the next clean-up."""
        return self._answer(domains.delete(self.get_object(), actor=actor_of(request)), status.HTTP_202_ACCEPTED)

    @extend_schema(request=shapes.ProtectSerializer)
    @action(detail=True, methods=["post"])
    def protect(self, request: Request, pk: str) -> Response:
        values = checked(shapes.ProtectSerializer, request)
        domain, container = self.get_object(), values.pop("container", None)
        if container is not None:
            protection.protect_container(domain, container=container, actor=actor_of(request))
            return self._answer(domain)
        chosen = [_entity(key) for key in values.pop("entities", [])]
        protection.protect(domain, entities=chosen, actor=actor_of(request), **values)
        return self._answer(domain)

    @extend_schema(request=shapes.UnprotectSerializer)
    @action(detail=True, methods=["post"])
    def unprotect(self, request: Request, pk: str) -> Response:
        domain, keys = self.get_object(), checked(shapes.UnprotectSerializer, request)["entities"]
        rows = list(ProtectedEntity.objects.filter(domain=domain, pk__in=keys))
        if len(rows) != len(set(keys)):
            raise InvalidInput("entities", f"Not all of these are protected by {domain.name}.")
        protection.unprotect(domain, entities=rows, actor=actor_of(request))
        return self._answer(domain)

    @extend_schema(request=shapes.ChangeGroupSerializer)
    @action(detail=True, methods=["post"], url_path="consistency-group")
    def change_group(self, request: Request, pk: str) -> Response:
        values = checked(shapes.ChangeGroupSerializer, request)
        domain = self.get_object()
        group = get_object_or_404(domain.groups, name=values["group"])
        protection.set_app_consistent(group, app_consistent=values["app_consistent"], actor=actor_of(request))
        return self._answer(domain)

    @extend_schema(request=shapes.ScheduleSpecSerializer, responses={201: shapes.ScheduleSerializer})
    @action(detail=True, methods=["post"], url_path="schedules")
    def add_schedule(self, request: Request, pk: str) -> Response:
        spec = shapes.schedule_spec(checked(shapes.ScheduleSpecSerializer, request))
        row = schedules.add(self.get_object(), spec, actor=actor_of(request))
        return Response(shapes.ScheduleSerializer(row).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=shapes.TakeSerializer, responses={202: shapes.TakenSerializer})
    @action(detail=True, methods=["post"], url_path="take-snapshot")
    def take_snapshot(self, request: Request, pk: str) -> Response:
        """Now or later, here and to remote sites."""
        values = checked(shapes.TakeSerializer, request)
        key = idempotency_key(request)
        order = snapshots.take(self.get_object(), actor=actor_of(request), idempotency_key=key, **values)
        return Response(shapes.TakenSerializer(order).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=shapes.MigrateSerializer, responses={202: AcceptedSerializer})
    @action(detail=True, methods=["post"])
    def migrate(self, request: Request, pk: str) -> Response:
        values = checked(shapes.MigrateSerializer, request)
        key = idempotency_key(request)
        return accepted(
            migrate.migrate(self.get_object(), actor=actor_of(request), idempotency_key=key, **values), request
        )

    @extend_schema(request=shapes.ActivateSerializer, responses={202: AcceptedSerializer})
    @action(detail=True, methods=["post"])
    def activate(self, request: Request, pk: str) -> Response:
        values = checked(shapes.ActivateSerializer, request)
        key = idempotency_key(request)
        return accepted(
            activation.activate(self.get_object(), actor=actor_of(request), idempotency_key=key, **values), request
        )

    @extend_schema(request=None, responses={202: AcceptedSerializer})
    @action(detail=True, methods=["post"])
    def deactivate(self, request: Request, pk: str) -> Response:
        """The entities leave this site; a snapshot of them is kept."""
        key = idempotency_key(request)
        return accepted(activation.deactivate(self.get_object(), actor=actor_of(request), idempotency_key=key), request)


def _entity(key: Any) -> Entity:
    for model in (VM, VolumeGroup, StoredFile):
        found: Entity | None = model._default_manager.filter(pk=key).first()
        if found is not None:
            return found
    raise InvalidInput("entities", f"There is no VM, volume group or file {key}.")


class ScheduleViewSet(Resource, viewsets.ReadOnlyModelViewSet[Schedule]):
    """Filter: `domain`."""

    queryset = Schedule.objects.select_related("domain").prefetch_related("remotes__site")
    serializer_class = shapes.ScheduleSerializer
    observed = frozenset({"next_due_at", "last_fired_at"})
    filters = {"domain": "domain"}

    @extend_schema(request=shapes.ScheduleSpecSerializer)
    def update(self, request: Request, pk: str) -> Response:
        spec = shapes.schedule_spec(checked(shapes.ScheduleSpecSerializer, request))
        schedules.change(self.get_object(), spec, actor=actor_of(request))
        return Response(self.get_serializer(self.get_object()).data)

    def destroy(self, request: Request, pk: str) -> Response:
        schedules.remove(self.get_object(), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=shapes.SuspendSerializer)
    @action(detail=True, methods=["post"])
    def suspend(self, request: Request, pk: str) -> Response:
        values = checked(shapes.SuspendSerializer, request)
        schedules.suspend(self.get_object(), actor=actor_of(request), **values)
        return Response(self.get_serializer(self.get_object()).data)
