# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataprotection.models.domain import ConsistencyGroup, DomainTransition, ProtectedEntity, ProtectionDomain
from dataprotection.models.inventory import (
    NAME_MAX,
    VM,
    Nic,
    StorageContainer,
    StoredFile,
    VirtualDisk,
    VolumeGroup,
    VolumeGroupAttachment,
)
from dataprotection.models.schedule import OneTimeSnapshot, Schedule, ScheduleRemote
from dataprotection.models.snapshot import Snapshot

__all__ = [
    "NAME_MAX",
    "VM",
    "ConsistencyGroup",
    "DomainTransition",
    "Nic",
    "OneTimeSnapshot",
    "ProtectedEntity",
    "ProtectionDomain",
    "Schedule",
    "ScheduleRemote",
    "Snapshot",
    "StorageContainer",
    "StoredFile",
    "VirtualDisk",
    "VolumeGroup",
    "VolumeGroupAttachment",
]
