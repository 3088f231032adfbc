# SPDX-License-Identifier: Apache-2.0
"""Shapes of containers, VMs, volume groups, files and disks. What a value may be is decided by the services."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast
from uuid import UUID

from django.db.models import Manager
from rest_framework import serializers
from rest_framework.serializers import SlugRelatedField as Slug

from dataprotection.models import VM, Nic, StorageContainer, StoredFile, VirtualDisk, VolumeGroup
from dataprotection.services.disk_states import DiskState, states_of
from dataprotection.services.disks import NewDisk, nbd_uri
from prism.core.exceptions import Unreachable
from stargate.errors import StargateError

Body = serializers.Serializer[None]
OF_THE_ENGINE = frozenset({"role", "reason", "reopen"})
"""Of disks: what the engine says of them, and no order sets."""


class ContainerSerializer(serializers.ModelSerializer[StorageContainer]):
    class Meta:
        model = StorageContainer
        fields = ["id", "name", "fingerprinting", "compress", "created_at"]


class ChangeContainerSerializer(Body):
    fingerprinting = serializers.BooleanField(required=False)
    compress = serializers.BooleanField(required=False)


class NewContainerSerializer(ChangeContainerSerializer):
    name = serializers.CharField()


def _ask(serializer: serializers.BaseSerializer[Any], disks: Iterable[UUID]) -> dict[UUID, DiskState | None]:
    """States of what this answer shows; the engine is asked for those that are not known yet, all at once."""
    context = cast(dict[str, Any], serializer.context)
    known: dict[UUID, DiskState | None] = context.setdefault("disk_states", {})
    missing = [key for key in disks if key not in known]
    if missing:
        found: dict[UUID, DiskState] = {}
        with suppress(StargateError, Unreachable):  # rows are shown without their states
            found = states_of(missing)
        known.update({key: found.get(key) for key in missing})
    return known


def _state(serializer: DiskSerializer, disk: VirtualDisk) -> DiskState | None:
    return _ask(serializer, [disk.pk])[disk.pk]


class DiskList(serializers.ListSerializer[VirtualDisk]):
    """Asks the engine once for all of its disks."""

    def to_representation(self, data: Any) -> Any:
        rows = list(data.all() if isinstance(data, Manager) else data)
        _ask(self, [disk.pk for disk in rows])
        return super().to_representation(rows)


class OwnerList(serializers.ListSerializer[Any]):
    """VMs, volume groups or files: asks the engine once for the disks of them all."""

    def to_representation(self, data: Any) -> Any:
        rows = list(data.all() if isinstance(data, Manager) else data)
        _ask(self, [disk.pk for row in rows for disk in _disks_of(row)])
        return super().to_representation(rows)


def _disks_of(owner: VM | VolumeGroup | StoredFile) -> list[VirtualDisk]:
    return [owner.disk] if isinstance(owner, StoredFile) else list(owner.disks.all())


class DiskSerializer(serializers.ModelSerializer[VirtualDisk]):
    """`nbd_uri` is where clients reach it. `role`, `reason`, `reopen` (it waits to be re-opened) and `write_through`
    are the engine's: null when it does not answer or does not have the disk.
    """

    nbd_uri = serializers.SerializerMethodField()
    role = serializers.SerializerMethodField()
    reason = serializers.SerializerMethodField()
    reopen = serializers.SerializerMethodField()
    write_through = serializers.SerializerMethodField()

    class Meta:
        model = VirtualDisk
        list_serializer_class = DiskList
        fields = [
            "uuid",
            "size_bytes",
            "vm",
            "volume_group",
            "stored_file",
            "bus",
            "index",
            "label",
            "export_name",
            "nbd_uri",
            "role",
            "reason",
            "reopen",
            "write_through",
        ]

    def get_nbd_uri(self, disk: VirtualDisk) -> str:
        return nbd_uri(disk)

    def get_role(self, disk: VirtualDisk) -> str | None:
        return state.role if (state := _state(self, disk)) else None

    def get_reason(self, disk: VirtualDisk) -> str | None:
        return state.reason if (state := _state(self, disk)) else None

    def get_reopen(self, disk: VirtualDisk) -> bool | None:
        return state.reopen if (state := _state(self, disk)) else None

    def get_write_through(self, disk: VirtualDisk) -> bool | None:
        return state.write_through if (state := _state(self, disk)) else None


class NicSerializer(serializers.ModelSerializer[Nic]):
    class Meta:
        model = Nic
        fields = ["id", "network", "mac"]


class VmSerializer(serializers.ModelSerializer[VM]):
    disks = DiskSerializer(many=True, read_only=True)
    nics = NicSerializer(many=True, read_only=True)
    container: Slug[StorageContainer] = serializers.SlugRelatedField(slug_field="name", read_only=True)

    class Meta:
        model = VM
        fields = "__all__"
        list_serializer_class = OwnerList


class VolumeGroupSerializer(serializers.ModelSerializer[VolumeGroup]):
    """`attachments`: uuids of the VMs that use it."""

    disks = DiskSerializer(many=True, read_only=True)
    container: Slug[StorageContainer] = serializers.SlugRelatedField(slug_field="name", read_only=True)
    attachments = serializers.SerializerMethodField()

    class Meta:
        model = VolumeGroup
        fields = "__all__"
        list_serializer_class = OwnerList

    def get_attachments(self, group: VolumeGroup) -> list[str]:
        return [str(row.vm_id) for row in group.attachments.all()]


class FileSerializer(serializers.ModelSerializer[StoredFile]):
    disk = DiskSerializer(read_only=True)
    container: Slug[StorageContainer] = serializers.SlugRelatedField(slug_field="name", read_only=True)

    class Meta:
        model = StoredFile
        fields = "__all__"
        list_serializer_class = OwnerList


class NewDiskSerializer(Body):
    size_bytes = serializers.IntegerField()
    bus = serializers.CharField(required=False)
    index = serializers.IntegerField(required=False, allow_null=True)
    label = serializers.CharField(required=False, allow_blank=True)  # type: ignore[assignment]  # taken off the class
    write_through = serializers.BooleanField(required=False)


def new_disk(values: dict[str, Any]) -> NewDisk:
    return NewDisk(**values)


class WriteThroughSerializer(Body):
    enabled = serializers.BooleanField()


class ContainerField(serializers.SlugRelatedField[StorageContainer]):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(slug_field="name", queryset=StorageContainer.objects.all(), **kwargs)


class NewVmSerializer(Body):
    name = serializers.CharField()
    container = ContainerField()
    vcpus = serializers.IntegerField(required=False)
    memory_bytes = serializers.IntegerField(required=False)
    description = serializers.CharField(required=False, allow_blank=True)
    disks = NewDiskSerializer(many=True, required=False)
    networks = serializers.ListField(child=serializers.CharField(allow_blank=True), required=False)


class ChangeVmSerializer(Body):
    name = serializers.CharField(required=False)
    vcpus = serializers.IntegerField(required=False)
    memory_bytes = serializers.IntegerField(required=False)
    description = serializers.CharField(required=False, allow_blank=True)
    power_state = serializers.CharField(required=False)


class NewVolumeGroupSerializer(Body):
    name = serializers.CharField()
    container = ContainerField()
    description = serializers.CharField(required=False, allow_blank=True)
    disks = NewDiskSerializer(many=True, required=False)


class ChangeVolumeGroupSerializer(Body):
    name = serializers.CharField(required=False)
    description = serializers.CharField(required=False, allow_blank=True)


class AttachSerializer(Body):
    vm = serializers.PrimaryKeyRelatedField(queryset=VM.objects.all())


class NewFileSerializer(Body):
    path = serializers.CharField()
    container = ContainerField()
    size_bytes = serializers.IntegerField()


class ResizeSerializer(Body):
    size_bytes = serializers.IntegerField()


class MoveSerializer(Body):
    """The new owner: exactly one of `vm` and `volume_group`."""

    vm = serializers.PrimaryKeyRelatedField(queryset=VM.objects.all(), required=False, allow_null=True)
    volume_group = serializers.PrimaryKeyRelatedField(
        queryset=VolumeGroup.objects.all(), required=False, allow_null=True
    )
    bus = serializers.CharField(required=False)
    index = serializers.IntegerField(required=False, allow_null=True)


class NetworkSerializer(Body):
    network = serializers.CharField(allow_blank=True)
