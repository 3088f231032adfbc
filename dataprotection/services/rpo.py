# SPDX-License-Identifier: Apache-2.0
"""The alert for what did *not* happen: a site that has had nothing new for longer than its schedule promises."""

from __future__ import annotations

from datetime import datetime, timedelta

from dataprotection.models import Schedule, ScheduleRemote
from dataprotection.services import domains, grid
from dataprotection.states import Phase
from prism.core.services import alerts
from replication.choices import Direction
from replication.models import Replication
from replication.states import ReplicationState

GRACE = timedelta(minutes=15)
"""A replication may take this long before it counts as missing."""


def check(now: datetime) -> None:
    """Raise "Recovery Point Objective Cannot Be Met" where the newest replicated snapshot is too old, else clear it."""
    missed: dict[str, list[str]] = {}
    watched = {}
    for remote in _remotes(now):
        domain = remote.schedule.domain
        watched[str(domain.uuid)] = domain
        newest = _newest(remote)
        if now - newest > grid.interval(remote.schedule) + GRACE:
            missed.setdefault(str(domain.uuid), []).append(
                f"{remote.site.name} has nothing newer than {newest:%Y-%m-%d %H:%M} UTC, "
                f"but {domain.name} is scheduled every {grid.interval(remote.schedule)}"
            )
    for key, domain in watched.items():
        about = {"object_type": domains.TYPE, "object_name": domain.name, "object_id": key}
        if key in missed:
            alerts.raise_alert("rpo_missed", "; ".join(missed[key]) + ".", **about)
        else:
            alerts.clear("rpo_missed", **about)


def _remotes(now: datetime) -> list[ScheduleRemote]:
    rows = ScheduleRemote.objects.filter(
        schedule__suspended=False, schedule__start_at__lte=now, schedule__domain__phase=Phase.ACTIVE
    ).select_related("schedule__domain", "site")
    return [row for row in rows if not _ended(row.schedule, now)]


def _ended(schedule: Schedule, now: datetime) -> bool:
    return schedule.end_at is not None and schedule.end_at <= now


def _newest(remote: ScheduleRemote) -> datetime:
    """Time of the newest point over there; before the first one, the time since which one is expected."""
    found = (
        Replication.objects.filter(
            domain_uuid=remote.schedule.domain_id,
            site=remote.site,
            direction=Direction.OUT,
            state=ReplicationState.SUCCEEDED,
        )
        .order_by("-snapshot_created_at")
        .values_list("snapshot_created_at", flat=True)
        .first()
    )
    since = max(remote.schedule.start_at, remote.schedule.created_at)
    return max(found, since) if found else since
