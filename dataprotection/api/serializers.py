# SPDX-License-Identifier: Apache-2.0
"""Shapes of protection: domains, schedules, snapshots. What a value may be is decided by the services."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.serializers import SlugRelatedField as Slug

from dataprotection.api.inventory_shapes import Body, ContainerField
from dataprotection.models import (
    ConsistencyGroup,
    OneTimeSnapshot,
    ProtectedEntity,
    ProtectionDomain,
    Schedule,
    ScheduleRemote,
    Snapshot,
    StorageContainer,
)
from dataprotection.services.schedules import ScheduleSpec
from prism.core.api.serializers import TaskSerializer
from replication.models import RemoteSite


class GroupSerializer(serializers.ModelSerializer[ConsistencyGroup]):
    class Meta:
        model = ConsistencyGroup
        fields = ["id", "name", "app_consistent"]


class EntitySerializer(serializers.ModelSerializer[ProtectedEntity]):
    """`entity` is the uuid of the VM, volume group or file; null = missing."""

    group: Slug[ConsistencyGroup] = serializers.SlugRelatedField(slug_field="name", read_only=True)
    app_consistent = serializers.BooleanField(source="group.app_consistent", read_only=True)
    entity = serializers.SerializerMethodField()

    class Meta:
        model = ProtectedEntity
        fields = ["id", "entity", "entity_type", "name", "group", "app_consistent", "protected_at"]

    def get_entity(self, row: ProtectedEntity) -> str | None:
        key = row.vm_id or row.volume_group_id or row.stored_file_id
        return str(key) if key else None


class DomainSerializer(serializers.ModelSerializer[ProtectionDomain]):
    entities = EntitySerializer(many=True, read_only=True)
    groups = GroupSerializer(many=True, read_only=True)
    whole_container: Slug[StorageContainer] = serializers.SlugRelatedField(
        slug_field="name", read_only=True, allow_null=True
    )

    class Meta:
        model = ProtectionDomain
        fields = "__all__"


class NameSerializer(Body):
    name = serializers.CharField(allow_blank=True)


class ChangeDomainSerializer(Body):
    min_snapshots_to_retain = serializers.IntegerField(required=False)
    schedules_suspended = serializers.BooleanField(required=False)


class ProtectSerializer(Body):
    """Either `entities` (uuids) or `container` (its name: the whole of it)."""

    entities = serializers.ListField(child=serializers.UUIDField(), required=False, max_length=10_000)
    container = ContainerField(required=False)
    group_mode = serializers.CharField(default="entity_name")
    group_name = serializers.CharField(required=False, allow_blank=True, default="")
    app_consistent = serializers.BooleanField(default=False)
    related = serializers.BooleanField(default=False)


class UnprotectSerializer(Body):
    """`entities`: ids of protected entities, as the domain lists them."""

    entities = serializers.ListField(child=serializers.IntegerField(), max_length=10_000)


class ChangeGroupSerializer(Body):
    group = serializers.CharField()
    app_consistent = serializers.BooleanField()


class RemoteKeepSerializer(serializers.ModelSerializer[ScheduleRemote]):
    """`site`: uuid of the remote site."""

    site = serializers.SlugRelatedField(slug_field="uuid", queryset=RemoteSite.objects.all())

    class Meta:
        model = ScheduleRemote
        fields = ["site", "keep"]


class ScheduleSerializer(serializers.ModelSerializer[Schedule]):
    remotes = RemoteKeepSerializer(many=True, read_only=True)
    text = serializers.CharField(source="__str__", read_only=True)

    class Meta:
        model = Schedule
        fields = "__all__"


class ScheduleSpecSerializer(Body):
    """Body of add and change."""

    type = serializers.CharField()
    every_nth = serializers.IntegerField()
    start_at = serializers.DateTimeField(required=False, allow_null=True)
    end_at = serializers.DateTimeField(required=False, allow_null=True)
    timezone = serializers.CharField(required=False)
    app_consistent = serializers.BooleanField(required=False)
    local_keep = serializers.IntegerField(required=False)
    local_ticked = serializers.BooleanField(required=False)
    remotes = RemoteKeepSerializer(many=True, required=False)


def schedule_spec(values: dict[str, Any]) -> ScheduleSpec:
    remotes = {row["site"].pk: row["keep"] for row in values.pop("remotes", [])}
    return ScheduleSpec(**values, remotes=remotes)


class SuspendSerializer(Body):
    suspended = serializers.BooleanField()


class SnapshotSerializer(serializers.ModelSerializer[Snapshot]):
    """`id` as the console shows it; `exclusive_usage_in_bytes` null = still processing."""

    id = serializers.CharField(source="display_id", read_only=True)
    exclusive_usage_in_bytes = serializers.IntegerField(source="reclaimable_bytes", read_only=True, allow_null=True)

    class Meta:
        model = Snapshot
        exclude = ["manifest", "display_id", "reclaimable_bytes"]


class SnapshotDetailSerializer(SnapshotSerializer):
    """With the manifest: what the snapshot holds."""

    class Meta:
        model = Snapshot
        exclude = ["display_id", "reclaimable_bytes"]


class OneTimeSerializer(serializers.ModelSerializer[OneTimeSnapshot]):
    sites: Slug[RemoteSite] = serializers.SlugRelatedField(slug_field="uuid", many=True, read_only=True)

    class Meta:
        model = OneTimeSnapshot
        fields = "__all__"


class TakenSerializer(OneTimeSerializer):
    """Answer of take: with the task; null = it begins later."""

    task = TaskSerializer(read_only=True, allow_null=True)


class TakeSerializer(Body):
    """`retention_seconds` null = no expiration; `run_at` null = now; `sites`: uuids of remote sites."""

    local = serializers.BooleanField(default=True)
    sites = serializers.SlugRelatedField(
        slug_field="uuid", queryset=RemoteSite.objects.all(), many=True, required=False
    )
    run_at = serializers.DateTimeField(required=False, allow_null=True)
    retention_seconds = serializers.IntegerField(required=False, allow_null=True)
    app_consistent = serializers.BooleanField(default=False)


class MigrateSerializer(Body):
    site = serializers.SlugRelatedField(slug_field="uuid", queryset=RemoteSite.objects.all())


class ActivateSerializer(Body):
    """`snapshot` null = the newest complete one; `force`: see the service."""

    snapshot = serializers.PrimaryKeyRelatedField(queryset=Snapshot.objects.all(), required=False, allow_null=True)
    force = serializers.BooleanField(default=False)


class OverwriteSerializer(Body):
    """`entities` (uuids) null = all of the snapshot."""

    entities = serializers.ListField(child=serializers.UUIDField(), required=False, allow_null=True, max_length=10_000)
    disconnect_writers = serializers.BooleanField(default=False)


class CloneSerializer(Body):
    entities = serializers.ListField(child=serializers.UUIDField(), required=False, allow_null=True, max_length=10_000)
    vm_prefix = serializers.CharField(required=False, allow_blank=True, trim_whitespace=False)
    volume_group_prefix = serializers.CharField(required=False, allow_blank=True, trim_whitespace=False)
    file_prefix = serializers.CharField(required=False, allow_blank=True)


class RetainSerializer(Body):
    """null = no expiration."""

    retention_seconds = serializers.IntegerField(allow_null=True)


class WhatIfQuerySerializer(Body):
    """Query of a what-if: snapshots' uuids, or a domain's."""

    snapshots = serializers.ListField(child=serializers.UUIDField(), required=False, max_length=10_000)
    domain = serializers.UUIDField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.get("snapshots") and not attrs.get("domain"):
            raise serializers.ValidationError("Name snapshots, or a domain.")
        return attrs


class ForecastSerializer(serializers.Serializer[dict[str, Any]]):
    """`freed_bytes` null = not known yet; not `exact` = an estimate."""

    freed_bytes = serializers.IntegerField(allow_null=True)
    exact = serializers.BooleanField()
    scanned_at = serializers.DateTimeField(allow_null=True)


class RangesQuerySerializer(Body):
    """Query of changed ranges; `since`: an older snapshot's uuid."""

    disk = serializers.UUIDField()
    since = serializers.UUIDField(required=False)
    start = serializers.IntegerField(required=False, min_value=0, default=0)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=10_000, default=1000)
