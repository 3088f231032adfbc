# SPDX-License-Identifier: Apache-2.0
"""What can be protected: VMs, volume groups and files, and the disks they own."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone

from dataprotection.choices import Bus, EntityType, Hypervisor, PowerState

NAME_MAX = 75


class StorageContainer(models.Model):
    """A named part of the site's storage; `fingerprinting` lets replication ask for known data."""

    name = models.CharField(max_length=NAME_MAX, unique=True)
    fingerprinting = models.BooleanField(default=True)
    compress = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class VM(models.Model):
    """A virtual machine whose disks live here."""

    entity_type = EntityType.VM

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=NAME_MAX, unique=True)
    description = models.TextField(blank=True)
    vcpus = models.IntegerField(default=1)
    memory_bytes = models.BigIntegerField(default=1 << 30)
    power_state = models.CharField(max_length=8, choices=PowerState.choices, default=PowerState.OFF)
    hypervisor = models.CharField(max_length=16, choices=Hypervisor.choices, default=Hypervisor.UNMANAGED)
    container = models.ForeignKey(StorageContainer, on_delete=models.PROTECT, related_name="vms")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Nic(models.Model):
    """A network card of a VM; `network` is a name that a remote site's network map translates ("" = not connected)."""

    vm = models.ForeignKey(VM, on_delete=models.CASCADE, related_name="nics")
    network = models.CharField(max_length=NAME_MAX, blank=True)
    mac = models.CharField(max_length=17, unique=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.mac


class VolumeGroup(models.Model):
    """A set of disks that VMs attach from outside."""

    entity_type = EntityType.VOLUME_GROUP

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=NAME_MAX, unique=True)
    description = models.TextField(blank=True)
    container = models.ForeignKey(StorageContainer, on_delete=models.PROTECT, related_name="volume_groups")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class VolumeGroupAttachment(models.Model):
    """A VM that uses a volume group. Removed by migration and recovery: re-attaching is an operator's step."""

    volume_group = models.ForeignKey(VolumeGroup, on_delete=models.CASCADE, related_name="attachments")
    vm = models.ForeignKey(VM, on_delete=models.CASCADE, related_name="volume_group_attachments")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["volume_group", "vm"], name="dp_attachment_once")]

    def __str__(self) -> str:
        return f"{self.volume_group} on {self.vm}"


class StoredFile(models.Model):
    """A file (golden image, ISO ...): a path and one disk of exactly its length."""

    entity_type = EntityType.FILE

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    path = models.CharField(max_length=1024, unique=True)
    container = models.ForeignKey(StorageContainer, on_delete=models.PROTECT, related_name="files")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["path"]

    def __str__(self) -> str:
        return self.path

    @property
    def name(self) -> str:
        """What lists and manifests call this entity: its path."""
        return self.path


class VirtualDisk(models.Model):
    """A vDisk of the engine (same uuid) and the one entity that owns it. `index` is its place on `bus`."""

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    size_bytes = models.BigIntegerField()
    vm = models.ForeignKey(VM, null=True, blank=True, on_delete=models.PROTECT, related_name="disks")
    volume_group = models.ForeignKey(VolumeGroup, null=True, blank=True, on_delete=models.PROTECT, related_name="disks")
    stored_file = models.OneToOneField(StoredFile, null=True, blank=True, on_delete=models.PROTECT, related_name="disk")
    bus = models.CharField(max_length=8, choices=Bus.choices, default=Bus.SCSI)
    index = models.IntegerField(default=0)
    label = models.CharField(max_length=NAME_MAX, blank=True)
    export_name = models.CharField(max_length=255, unique=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["bus", "index"]
        constraints = [
            models.CheckConstraint(
                condition=Q(vm__isnull=False, volume_group__isnull=True, stored_file__isnull=True)
                | Q(vm__isnull=True, volume_group__isnull=False, stored_file__isnull=True)
                | Q(vm__isnull=True, volume_group__isnull=True, stored_file__isnull=False),
                name="dp_disk_one_owner",
            ),
            models.UniqueConstraint(fields=["vm", "bus", "index"], name="dp_disk_slot_of_vm"),
            models.UniqueConstraint(fields=["volume_group", "bus", "index"], name="dp_disk_slot_of_group"),
        ]

    def __str__(self) -> str:
        return self.export_name

    @property
    def owner(self) -> VM | VolumeGroup | StoredFile:
        owner = self.vm or self.volume_group or self.stored_file
        if owner is None:
            raise LookupError("a disk without an owner")
        return owner
