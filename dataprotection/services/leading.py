# SPDX-License-Identifier: Apache-2.0
"""What the leader does for data protection: registered with Cerebro."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from dataprotection.choices import SnapshotState
from dataprotection.models import ScheduleRemote, Snapshot
from dataprotection.services import activation, domains, kept, migrate, retention, rpo, snapshots, stale
from dataprotection.services.fencing import current_term
from prism.core.actor import Actor
from prism.core.doors import Door
from prism.core.engine import engine
from prism.core.exceptions import Unreachable
from replication.cerebro import registry
from replication.models import RemoteSite
from stargate.errors import StargateError

ASKED_AT_ONCE = 20_000
UPDATED_AT_ONCE = 1_000


def expire(now: datetime) -> None:
    """Every minute: hand the clean-up to a worker."""
    from dataprotection.tasks import expire_due

    expire_due.delay(now.isoformat(), current_term())


def run_expiry(now: datetime, *, term: int | None) -> None:
    """The body of that task."""
    retention.expire_due(now, term=term)
    domains.clean_up(actor=Actor.task("leader"))
    stale.check_again()
    rpo.check(now)
    refresh_reclaimable()


def refresh_reclaimable() -> None:
    """Copy the engine's last scan into the rows; what it has not visited yet stays None ("Processing")."""
    rows = Snapshot.objects.exclude(state=SnapshotState.DELETING)
    known = {str(key): size for key, size in rows.values_list("uuid", "reclaimable_bytes")}
    keys = list(known)
    found: dict[str, int | None] = {}
    try:
        for at in range(0, len(keys), ASKED_AT_ONCE):
            found |= engine().reclaimable(keys[at : at + ASKED_AT_ONCE])
    except (StargateError, Unreachable):
        return
    changed = [
        Snapshot(pk=key, reclaimable_bytes=exclusive)
        for key, exclusive in found.items()
        if exclusive is not None and known.get(key) != exclusive
    ]
    Snapshot.objects.bulk_update(changed, ["reclaimable_bytes"], batch_size=UPDATED_AT_ONCE)


def uses_of(site: RemoteSite) -> list[str]:
    """Why a remote site cannot be removed yet."""
    rows = ScheduleRemote.objects.filter(site=site).select_related("schedule__domain")
    return [f"A schedule of {row.schedule.domain.name} replicates to it." for row in rows]


def register() -> None:
    """From `AppConfig.ready`."""
    from dataprotection import tasks

    registry.register_due("dataprotection", snapshots.enqueue_due)
    registry.register_expiry("dataprotection", expire)
    registry.register_start("dataprotection", stale.check_all)
    registry.register_start("dataprotection.kept", kept.note)
    registry.register_site_use("dataprotection", uses_of)
    doors = {
        "snapshot.take": tasks.take_one_time,
        "snapshot.scheduled": tasks.take_scheduled,
        "restore.overwrite": tasks.restore_overwrite,
        "restore.clone": tasks.restore_clone,
        migrate.KIND: tasks.migrate_domain,
        activation.ACTIVATE: tasks.activate_domain,
        activation.DEACTIVATE: tasks.deactivate_domain,
    }
    for kind, door in doors.items():
        registry.register_task(kind, _sender(door))


def _sender(door: Door[...]) -> Callable[[str], object]:
    return lambda key: door.delay(key, current_term())
