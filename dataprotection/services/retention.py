# SPDX-License-Identifier: Apache-2.0
"""Carrying out the retention plan: mark what expired, give back the space of what goes."""

from __future__ import annotations

import logging
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from dataprotection.choices import SnapshotState
from dataprotection.models import ProtectionDomain, Snapshot
from dataprotection.services import bases
from dataprotection.services.retention_forecast import Keeping, Outlook, forecast
from dataprotection.services.retention_plan import Action, Decision, Fact, plan_expiry
from prism.core.engine import engine
from prism.core.services import events
from stargate.errors import StargateError

log = logging.getLogger(__name__)


OUTLOOK_DAYS = (0, 1, 7, 30, 90)


def _facts(domain: ProtectionDomain) -> list[Fact]:
    rows = Snapshot.objects.filter(domain=domain).exclude(state=SnapshotState.DELETING).order_by()
    found = rows.values_list("uuid", "created_at", "expires_at", "state", "hidden_base")
    return [Fact(key, at, expires, state == SnapshotState.EXPIRED, hidden) for key, at, expires, state, hidden in found]


def plan_for(domain: ProtectionDomain, now: datetime) -> list[Decision]:
    """The plan with today's facts of a domain."""
    return plan_expiry(_facts(domain), now, bases.guards_of(domain))


def outlook(
    domain: ProtectionDomain, now: datetime, *, wanted: Keeping | None, replaced: UUID | None = None
) -> list[Outlook]:
    """What this site will have kept in `OUTLOOK_DAYS` when the domain's schedules go on, with `wanted` beside them or
    in the place of the schedule `replaced`. None: a schedule that keeps nothing here.
    """
    rows = domain.schedules.filter(suspended=False, local_ticked=True, next_due_at__isnull=False)
    keepings = [Keeping(row, row.local_keep, row.next_due_at) for row in rows if row.pk != replaced]
    if domain.schedules_suspended:
        keepings = []
    if wanted is not None:
        keepings.append(wanted)
    return forecast(_facts(domain), keepings, bases.guards_of(domain), now, OUTLOOK_DAYS)


def expire_due(now: datetime, *, term: int | None) -> int:
    """Carry out the plans of all domains; finish deletions that were cut short. Returns how many snapshots changed."""
    changed = 0
    for domain in _with_candidates(now):
        for decision in plan_for(domain, now):
            changed += _execute(decision, term=term)
    for row in Snapshot.objects.filter(state=SnapshotState.DELETING):
        changed += remove(row, term=term, reason="Deletion finished.")
    return changed


def _with_candidates(now: datetime) -> QuerySet[ProtectionDomain]:
    """Domains whose plan can be anything but "keep all": something has passed its time, or is a hidden base."""
    candidates = Snapshot.objects.filter(Q(expires_at__lte=now) | Q(hidden_base=True))
    return ProtectionDomain.objects.filter(pk__in=candidates.values("domain"))


def _execute(decision: Decision, *, term: int | None) -> int:
    if decision.action is Action.EXPIRE:
        mine = Snapshot.objects.filter(pk=decision.uuid, state=SnapshotState.AVAILABLE)
        return mine.update(state=SnapshotState.EXPIRED)
    if decision.action is Action.REMOVE:
        row = Snapshot.objects.filter(pk=decision.uuid).first()
        return remove(row, term=term, reason=decision.reason) if row else 0
    return 0


def remove(row: Snapshot, *, term: int | None, reason: str) -> int:
    """Delete the engine's snapshot, then the row. 0: the engine cannot now, DELETING stays and is retried."""
    Snapshot.objects.filter(pk=row.pk).update(state=SnapshotState.DELETING)
    try:
        engine().snapshot_delete(str(row.pk), term=term)
    except StargateError as error:
        log.warning("snapshot %s stays for now: %s", row.display_id, error)
        return 0
    with transaction.atomic():
        Snapshot.objects.filter(pk=row.pk).delete()
        if not row.hidden_base:
            events.add(
                "snapshot_deleted",
                f"Snapshot {row.display_id} of {row.domain_name} was removed. {reason}",
                object_type="protection_domain",
                object_name=row.domain_name,
                object_id=row.domain_id or "",
            )
    return 1
