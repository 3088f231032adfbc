# SPDX-License-Identifier: Apache-2.0
"""Which exports wait for the peers' word after a restart: those of domains that other sites know."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Q

from dataprotection.models import ProtectionDomain, ScheduleRemote, VirtualDisk
from prism.core.engine import engine
from replication.models import RemoteSite, Replication


def disk_ids(domain: ProtectionDomain) -> list[str]:
    """vDisks of all entities of the domain."""
    found = VirtualDisk.objects.filter(
        Q(vm__protection__domain=domain)
        | Q(volume_group__protection__domain=domain)
        | Q(stored_file__protection__domain=domain)
    )
    return [str(key) for key in found.values_list("uuid", flat=True)]


def peers_of(domain: ProtectionDomain) -> list[RemoteSite]:
    """Paired sites that may hold the domain: targets of its schedules, and whoever it was replicated with."""
    scheduled = ScheduleRemote.objects.filter(schedule__domain=domain).values("site_id")
    replicated = Replication.objects.filter(domain_uuid=domain.uuid).values("site_id")
    sites = RemoteSite.objects.filter(Q(pk__in=scheduled) | Q(pk__in=replicated))
    return [site for site in sites if site.is_paired]


def refresh(domain: ProtectionDomain) -> None:
    """Tell the engine, once the domain has peers, that its disks start read-only until those were asked."""
    keys = disk_ids(domain)
    if keys and peers_of(domain):
        engine().set_gated(keys, True)


def forget(domain: ProtectionDomain) -> None:
    """The domain ends: its disks start like any others."""
    if peers_of(domain):
        ungate([UUID(key) for key in disk_ids(domain)])


def ungate(disks: list[UUID]) -> None:
    """These disks leave their domain."""
    if disks:
        engine().set_gated([str(key) for key in disks], False)
