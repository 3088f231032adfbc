# SPDX-License-Identifier: Apache-2.0
"""Questions that several callers ask."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max, Min, QuerySet
from django.utils import timezone

from dataprotection.choices import EntityType, OneTimeState, SnapshotState
from dataprotection.models import VM, OneTimeSnapshot, ProtectionDomain, Snapshot, StoredFile, VolumeGroup
from dataprotection.services import manifest
from prism.core.engine import engine
from prism.core.exceptions import Refused
from replication.choices import Capability, Direction
from replication.models import Replication
from replication.states import ReplicationState
from stargate.errors import StargateError


def next_snapshot_at(domain: ProtectionDomain) -> datetime | None:
    """When the next snapshot is due; None = none is planned, or the domain is inactive or suspended."""
    if not domain.active or domain.schedules_suspended:
        return None
    due = domain.schedules.filter(suspended=False).aggregate(first=Min("next_due_at"))["first"]
    waiting = OneTimeSnapshot.objects.filter(domain=domain, state=OneTimeState.SCHEDULED)
    later = waiting.aggregate(first=Min("run_at"))["first"]
    return min((moment for moment in (due, later) if moment is not None), default=None)


def local_snapshots(domain: ProtectionDomain, *, include_expired: bool = False) -> QuerySet[Snapshot]:
    """What the Local Snapshots tab lists, newest first; never the hidden bases."""
    rows = Snapshot.objects.filter(domain=domain, hidden_base=False)
    return rows if include_expired else rows.exclude(state=SnapshotState.EXPIRED)


def unprotected_entities(*, name: str = "", entity_type: str = "") -> list[VM | VolumeGroup | StoredFile]:
    """Entities in no domain; `name` = part of it, `entity_type` = one of the choices, "" = any."""
    found: list[VM | VolumeGroup | StoredFile] = []
    for model, column in ((VM, "name"), (VolumeGroup, "name"), (StoredFile, "path")):
        if entity_type in {"", model.entity_type}:
            rows: Any = model._default_manager.filter(protection__isnull=True).select_related("container")
            found.extend(rows.filter(**{f"{column}__icontains": name}) if name else rows)
    return found


@dataclass(frozen=True)
class Place:
    """Whether one entity can be recovered at one site; `reason` says why not. `at` = the point in time."""

    site: str
    recoverable: bool
    at: datetime | None
    reason: str


@dataclass(frozen=True)
class Recoverability:
    """One entity of a snapshot and where it can be brought back."""

    uuid: uuid.UUID
    name: str
    entity_type: str
    places: list[Place]
    """This site first."""

    @property
    def type_label(self) -> str:
        """VM, Volume Group or File."""
        return EntityType(self.entity_type).label if self.entity_type in EntityType.values else self.entity_type

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def recoverability(snapshot: Snapshot) -> list[Recoverability]:
    """Recovery Details: per entity, here and at each remote site that was sent the snapshot."""
    found = manifest.read(snapshot.manifest)
    here = _here(snapshot)
    remote = _remote_places(snapshot)
    return [
        Recoverability(
            entry.uuid,
            entry.name,
            entry.type,
            [Place("local", not (reason := here(entry)), None if reason else snapshot.created_at, reason), *remote],
        )
        for entry in found.entities
    ]


def _here(snapshot: Snapshot) -> Any:
    """A function: entry -> why it cannot be recovered here ("" = it can)."""
    if snapshot.state in {SnapshotState.EXPIRED, SnapshotState.DELETING}:
        return lambda _entry: "The snapshot expired."
    try:
        held = {str(member["disk"]) for member in engine().snapshot(str(snapshot.uuid))["members"]}
    except (StargateError, Refused) as error:
        text = f"The block engine does not have it: {error}"
        return lambda _entry: text
    return lambda entry: (
        "" if all(str(disk.uuid) in held for disk in entry.disks) else "A disk is missing from the snapshot."
    )


def _may_be_gone(row: Replication) -> bool:
    """Whether the site that received it may have let it expire. The newest it has of a domain stays anyway."""
    if row.retention_seconds is None or row.finished_at is None:
        return False
    if timezone.now() < row.finished_at + timedelta(seconds=row.retention_seconds):
        return False
    sent = Replication.objects.filter(
        domain_uuid=row.domain_uuid, site=row.site, direction=Direction.OUT, state=ReplicationState.SUCCEEDED
    )
    return sent.filter(snapshot_created_at__gt=row.snapshot_created_at).exists()


def _remote_places(snapshot: Snapshot) -> list[Place]:
    rows = Replication.objects.filter(snapshot_uuid=snapshot.uuid, direction=Direction.OUT).select_related("site")
    places = {}
    for row in rows.order_by("created_at"):
        done = row.state == ReplicationState.SUCCEEDED
        reason = "" if done else f"The replication is {row.state.lower()}. {row.error}".strip()
        if done and row.site.capability == Capability.BACKUP:
            reason = "The site is for backups only: retrieve the snapshot first."
        if done and not reason and _may_be_gone(row):
            reason = "Its retention there has ended: look at that site."
        places[row.site_id] = Place(row.site.name, not reason, snapshot.created_at if done else None, reason)
    return list(places.values())


@dataclass(frozen=True)
class Point:
    """The newest point at a remote site. `at` None: it is to have one, and has none yet."""

    site: str
    at: datetime | None


def newest_here(domains: Sequence[uuid.UUID]) -> dict[uuid.UUID, datetime]:
    """Time of the newest point of this site that can be restored, of the domains that have one. One query."""
    usable = [SnapshotState.AVAILABLE, SnapshotState.RETAIN_FOREVER]
    points = Snapshot.objects.filter(domain__in=domains, state__in=usable, hidden_base=False)
    return dict(points.order_by().values_list("domain_id").annotate(newest=Max("created_at")))


def newest_elsewhere(domains: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[Point]]:
    """The newest arrived point at each remote site that has one. One query."""
    arrived = Replication.objects.filter(
        domain_uuid__in=domains, state=ReplicationState.SUCCEEDED, direction=Direction.OUT
    )
    found: dict[uuid.UUID, list[Point]] = {}
    newest = arrived.values_list("domain_uuid", "site__name").annotate(newest=Max("snapshot_created_at"))
    for domain, site, at in newest.order_by("site__name"):
        found.setdefault(domain, []).append(Point(site, at))
    return found


def recoverable_until(domain: ProtectionDomain) -> list[Place]:
    """Recoverable to <site> at <time>: the newest complete point here and at each remote site."""
    newest = local_snapshots(domain).exclude(state=SnapshotState.DELETING).first()
    missing = "" if newest else "There is no snapshot yet."
    places = [Place("local", newest is not None, newest.created_at if newest else None, missing)]
    rows = (
        Replication.objects.filter(domain_uuid=domain.uuid, state=ReplicationState.SUCCEEDED, direction=Direction.OUT)
        .select_related("site")
        .order_by("site_id", "-snapshot_created_at")
        .distinct("site_id")
    )
    return [*places, *(Place(row.site.name, True, row.snapshot_created_at, "") for row in rows)]
