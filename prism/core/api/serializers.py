# SPDX-License-Identifier: Apache-2.0
"""Shapes of the core's resources."""

from __future__ import annotations

from rest_framework import serializers

from prism.core.models import Alert, ApiToken, AuditRow, Event, Site, Task


class TaskSerializer(serializers.ModelSerializer[Task]):
    """`percent` is null while the total is unknown; `rate` is bytes per second."""

    percent = serializers.IntegerField(read_only=True, allow_null=True)
    stalled = serializers.BooleanField(read_only=True)

    class Meta:
        model = Task
        exclude = ["idempotency_key", "arguments"]


class EventSerializer(serializers.ModelSerializer[Event]):
    class Meta:
        model = Event
        fields = "__all__"


class AlertSerializer(serializers.ModelSerializer[Alert]):
    class Meta:
        model = Alert
        exclude = ["dedup_key"]


class AuditRowSerializer(serializers.ModelSerializer[AuditRow]):
    class Meta:
        model = AuditRow
        exclude = ["user"]


class SiteSerializer(serializers.ModelSerializer[Site]):
    class Meta:
        model = Site
        exclude = ["id"]


class ApiTokenSerializer(serializers.ModelSerializer[ApiToken]):
    """Never the token itself."""

    class Meta:
        model = ApiToken
        exclude = ["token_hash", "user"]


class NewTokenSerializer(serializers.Serializer[None]):
    """Body of create. `expires_at` null = valid until revoked."""

    name = serializers.CharField(max_length=75)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class MadeTokenSerializer(ApiTokenSerializer):
    """Answer of create: `token` is shown this once."""

    token = serializers.CharField(read_only=True)
