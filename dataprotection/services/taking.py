# SPDX-License-Identifier: Apache-2.0
"""Taking one snapshot of a domain: the marker in the engine, then the row, then the replications.

Everything is keyed by the snapshot's uuid, which the caller derives from the order: a task that runs twice finds what
the first run made. One engine call takes all groups of the domain, so the whole domain is one point in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from dataprotection.choices import Consistency, SnapshotState, StaleState
from dataprotection.models import ProtectedEntity, ProtectionDomain, Snapshot
from dataprotection.services import domains, gating, manifest
from prism.core.actor import Actor
from prism.core.engine import engine
from prism.core.exceptions import Conflict
from prism.core.services import alerts, events
from prism.core.services.counter import next_local_id
from prism.core.services.sites import this_site
from replication.models import RemoteSite
from replication.services import replications
from stargate.errors import StargateError


@dataclass(frozen=True)
class Target:
    """A remote site and how long it keeps the snapshot; None = for ever."""

    site: RemoteSite
    retention_seconds: int | None


@dataclass(frozen=True)
class Order:
    """What to take. `retention` None = no expiration. `hidden_base`: LOCAL was unticked.

    `fence`: take the exports down in the same engine call (migrate, deactivate, restore).
    """

    uuid: UUID
    kind: str
    retention: timedelta | None = None
    hidden_base: bool = False
    app_consistent: bool = False
    targets: Sequence[Target] = ()
    schedule_uuid: UUID | None = None
    one_time_uuid: UUID | None = None
    fence: bool = False
    fence_reason: str = ""


def refuse_untakeable(domain: ProtectionDomain) -> None:
    """Why an operator's or a schedule's snapshot cannot be taken now."""
    domain.refresh_from_db()
    if domain.stale_state == StaleState.ACTIVE_ELSEWHERE:
        raise Conflict(
            "active_on_multiple_sites",
            f"{domain.name} is active on {domain.peer_active_site or 'another site'} as well; the data here is stale.",
            "Deactivate it here; a snapshot of the stale data is kept.",
        )
    domains.refuse_unusable(domain)
    if not domain.entities.exists():
        raise Conflict("no_entities", f"{domain.name} has no entities.", "Protect at least one entity first.")


def has_members(domain: ProtectionDomain) -> bool:
    """Whether anything of the domain could be snapshotted."""
    return bool(_members(domain)[0])


def take(domain: ProtectionDomain, order: Order, *, term: int | None, actor: Actor) -> Snapshot:
    """Carry out `order` and return the row. Raises Conflict when nothing is left to snapshot, or the engine's error."""
    known = Snapshot.objects.filter(pk=order.uuid).first()
    if known is None:
        known = _take_new(domain, order, term=term, actor=actor)
    if order.targets:
        gating.refresh(domain)
    for target in order.targets:
        replications.request(
            snapshot_uuid=known.uuid,
            manifest=known.manifest,
            site=target.site,
            retention_seconds=target.retention_seconds,
            hidden_base=order.hidden_base,
            actor=actor,
        )
    return known


def _take_new(domain: ProtectionDomain, order: Order, *, term: int | None, actor: Actor) -> Snapshot:
    present, missing = _members(domain)
    if not present:
        raise Conflict(
            "no_entities", f"None of the entities of {domain.name} exists any more.", "Restore or unprotect them."
        )
    site = this_site()
    content = manifest.build(
        domain, present, site=site, snapshot=order.uuid, local_id=next_local_id(), created_at=timezone.now()
    )
    found = _mark(domain, order, content, term=term)
    with transaction.atomic():
        # The engine's answer may be that of an earlier run: its manifest is the true one.
        row = _row(domain, order, manifest.read(found["manifest"]))
        events.add(
            "snapshot_created",
            f"Snapshot {row.display_id} of {domain.name} was taken.",
            object_type=domains.TYPE,
            object_name=domain.name,
            object_id=domain.uuid,
        )
        _raise_alerts(domain, order, present, missing)
    return row


def _members(domain: ProtectionDomain) -> tuple[list[ProtectedEntity], list[ProtectedEntity]]:
    """Entities whose disks the engine has, and the missing ones. An entity without disks is present."""
    rows = domain.entities.select_related("group", "vm__container", "volume_group__container", "stored_file__container")
    known = {str(disk["vdisk"]) for disk in engine().vdisks()}
    present: list[ProtectedEntity] = []
    missing: list[ProtectedEntity] = []
    for row in rows:
        target = row.target
        ids = _disk_ids(row) if target is not None else []
        whole = target is not None and all(key in known for key in ids)
        (present if whole else missing).append(row)
    return present, missing


def _disk_ids(row: ProtectedEntity) -> list[str]:
    if row.stored_file is not None:
        return [str(row.stored_file.disk.uuid)]
    owner = row.vm or row.volume_group
    return [str(key) for key in owner.disks.values_list("uuid", flat=True)] if owner else []


def _mark(domain: ProtectionDomain, order: Order, content: dict[str, Any], *, term: int | None) -> dict[str, Any]:
    """The marker; durable when it returns. An entity set without any disk has nothing to mark and is refused."""
    disks = [disk["uuid"] for entity in content["entities"] for disk in entity["disks"]]
    if not disks:
        raise Conflict("no_disks", f"The entities of {domain.name} have no disks.", "Add a disk first.")
    owner = str(domain.uuid)
    try:
        if order.fence:
            answer = engine().fence(
                disks,
                reason=order.fence_reason,
                snapshot=str(order.uuid),
                manifest=content,
                owner=owner,
                term=term,
            )
            marked: dict[str, Any] = answer["snapshot"]
            return marked
        return engine().snapshot_create(str(order.uuid), disks, manifest=content, owner=owner, term=term)
    except StargateError as error:
        alerts.raise_alert(
            "snapshot_failure",
            f"The snapshot of {domain.name} failed: {error}",
            object_type=domains.TYPE,
            object_name=domain.name,
            object_id=domain.uuid,
        )
        raise


def _row(domain: ProtectionDomain, order: Order, content: manifest.Manifest) -> Snapshot:
    wish = order.app_consistent or any(entity.app_consistent for entity in content.entities)
    return Snapshot.objects.get_or_create(
        pk=order.uuid,
        defaults={
            "domain": domain,
            "domain_name": domain.name,
            "display_id": str(content.local_id),
            "cluster_id": content.cluster_id,
            "incarnation_id": content.incarnation_id,
            "local_id": content.local_id,
            "created_at": content.created_at,
            "expires_at": _expiry(content.created_at, order.retention),
            "state": SnapshotState.AVAILABLE if order.retention is not None else SnapshotState.RETAIN_FOREVER,
            "origin_site_uuid": content.site_uuid,
            "kind": order.kind,
            "schedule_uuid": order.schedule_uuid,
            "one_time_uuid": order.one_time_uuid,
            "consistency": Consistency.CRASH,
            "consistency_wanted": Consistency.APP if wish else Consistency.CRASH,
            "hidden_base": order.hidden_base,
            "manifest": content.raw,
            "size_bytes": content.size_bytes,
        },
    )[0]


def _expiry(created_at: datetime, retention: timedelta | None) -> datetime | None:
    return created_at + retention if retention is not None else None


def _raise_alerts(
    domain: ProtectionDomain, order: Order, present: list[ProtectedEntity], missing: list[ProtectedEntity]
) -> None:
    about: dict[str, Any] = {"object_type": domains.TYPE, "object_name": domain.name, "object_id": domain.uuid}
    alerts.clear("snapshot_failure", **about)
    if missing:
        names = ", ".join(row.name for row in missing[:5])
        alerts.raise_alert(
            "entities_not_snapshotted",
            f"{len(missing)} of {len(missing) + len(present)} entities of {domain.name} are missing: {names}.",
            **about,
        )
    else:
        alerts.clear("entities_not_snapshotted", **about)
    for row in present:
        if row.vm is not None and (order.app_consistent or row.group.app_consistent):
            alerts.raise_alert(
                "app_consistency_not_taken",
                f"The snapshot of {row.name} in {domain.name} is crash consistent, not application consistent.",
                dedup=row.name,
                **about,
            )
