# SPDX-License-Identifier: Apache-2.0
"""Enums of data protection with what the pages show for them."""

from __future__ import annotations

from django.db import models


class PowerState(models.TextChoices):
    ON = "on", "On"
    OFF = "off", "Off"


class Hypervisor(models.TextChoices):
    """`unmanaged`: the VM runs somewhere that only mounts our disks; power is what the operator recorded."""

    UNMANAGED = "unmanaged", "Unmanaged"


class Bus(models.TextChoices):
    SCSI = "scsi", "SCSI"
    VIRTIO = "virtio", "VirtIO"
    SATA = "sata", "SATA"
    IDE = "ide", "IDE"


class EntityType(models.TextChoices):
    VM = "vm", "VM"
    VOLUME_GROUP = "volume_group", "Volume Group"
    FILE = "file", "File"


class Mode(models.TextChoices):
    ACTIVE = "active", "Active"
    INACTIVE = "inactive", "Inactive"


class StaleState(models.TextChoices):
    """What is known about the domain on its peers since this site started."""

    NONE = "none", "Confirmed"
    UNCONFIRMED = "unconfirmed", "Unconfirmed"
    ACTIVE_ELSEWHERE = "active_elsewhere", "Active on multiple sites"


class ScheduleType(models.TextChoices):
    MINUTELY = "MINUTELY", "Minutes"
    HOURLY = "HOURLY", "Hours"
    DAILY = "DAILY", "Days"


class OneTimeState(models.TextChoices):
    SCHEDULED = "SCHEDULED", "Scheduled"
    RUNNING = "RUNNING", "Running"
    DONE = "DONE", "Done"
    FAILED = "FAILED", "Failed"
    CANCELLED = "CANCELLED", "Cancelled"


class SnapshotState(models.TextChoices):
    AVAILABLE = "AVAILABLE", "Available"
    RETAIN_FOREVER = "RETAIN_FOREVER", "No expiration"
    EXPIRED = "EXPIRED", "Expired"
    DELETING = "DELETING", "Deleting"


class SnapshotKind(models.TextChoices):
    SCHEDULED = "scheduled", "Scheduled"
    ONE_TIME = "one_time", "One time"
    MIGRATE = "migrate", "Migrate"
    SAFETY = "safety", "Safety"
    DEACTIVATE = "deactivate", "Deactivate"


class Consistency(models.TextChoices):
    CRASH = "crash", "Crash consistent"
    APP = "app", "Application consistent"
