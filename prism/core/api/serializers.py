# SPDX-License-Identifier: Apache-2.0
"""Shapes of the core's resources."""

from __future__ import annotations

from rest_framework import serializers

from prism.core.models import Alert, ApiToken, AuditRow, Event, Measurement, Site, Task


class TaskSerializer(serializers.ModelSerializer[Task]):
    """`percent` is null while the total is unknown; the fields of its pace while they are (see `prism.core.pace`)."""

    percent = serializers.IntegerField(read_only=True, allow_null=True)
    rate = serializers.IntegerField(
        source="pace.rate", read_only=True, allow_null=True, help_text="Bytes per second of the last 30 s, as measured."
    )
    seconds_left = serializers.IntegerField(source="pace.seconds_left", read_only=True, allow_null=True)
    time_left = serializers.CharField(source="pace.time_left", read_only=True, help_text="The same in words.")
    stalled = serializers.BooleanField(read_only=True, help_text="It runs and has not moved for 30 s.")
    stalled_since = serializers.DateTimeField(source="pace.stalled_since", read_only=True, allow_null=True)
    waits_for = serializers.CharField(source="pace.waits_for", read_only=True, help_text="Empty: nothing known.")

    class Meta:
        model = Task
        exclude = ["idempotency_key", "arguments", "samples"]


class AcceptedSerializer(serializers.Serializer[None]):
    """Answer of what takes longer: the task that does it."""

    task = TaskSerializer()


class EventSerializer(serializers.ModelSerializer[Event]):
    class Meta:
        model = Event
        fields = "__all__"


class MeasurementSerializer(serializers.ModelSerializer[Measurement]):
    class Meta:
        model = Measurement
        fields = ["series", "subject", "at", "value"]


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
