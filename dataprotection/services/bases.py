# SPDX-License-Identifier: Apache-2.0
"""What replication still needs of a domain's snapshots."""

from __future__ import annotations

from uuid import UUID

from dataprotection.models import ProtectionDomain
from dataprotection.services.retention_plan import Guards
from replication.choices import Direction
from replication.models import Replication
from replication.states import ReplicationState


def common_with_sites(domain_uuid: UUID) -> frozenset[UUID]:
    """The newest snapshot that each remote site confirmed, whichever way it went."""
    rows = (
        Replication.objects.filter(domain_uuid=domain_uuid, state=ReplicationState.SUCCEEDED)
        .order_by("site_id", "-snapshot_created_at")
        .distinct("site_id")
    )
    return frozenset(rows.values_list("snapshot_uuid", flat=True))


def in_flight(domain_uuid: UUID) -> frozenset[UUID]:
    """Snapshots that are being sent; one that only waits may expire in the queue."""
    rows = Replication.objects.filter(domain_uuid=domain_uuid, direction=Direction.OUT, state=ReplicationState.RUNNING)
    return frozenset(rows.values_list("snapshot_uuid", flat=True))


def waiting(domain_uuid: UUID) -> frozenset[UUID]:
    """Snapshots that wait to be sent."""
    rows = Replication.objects.filter(
        domain_uuid=domain_uuid, direction=Direction.OUT, state__in=[ReplicationState.PENDING, ReplicationState.PAUSED]
    )
    return frozenset(rows.values_list("snapshot_uuid", flat=True))


def guards_of(domain: ProtectionDomain) -> Guards:
    """What keeps this domain's snapshots now."""
    hidden_waiting = waiting(domain.uuid) & frozenset(
        domain.snapshots.filter(hidden_base=True).values_list("uuid", flat=True)
    )
    return Guards(
        min_snapshots_to_retain=domain.min_snapshots_to_retain,
        bases=common_with_sites(domain.uuid),
        in_use=in_flight(domain.uuid) | hidden_waiting,
    )
