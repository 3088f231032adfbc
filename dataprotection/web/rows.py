# SPDX-License-Identifier: Apache-2.0
"""Rows of the Data Protection table: a fixed number of queries for a page of domains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Min, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Least

from dataprotection.choices import Mode, OneTimeState
from dataprotection.models import OneTimeSnapshot, ProtectionDomain, ScheduleRemote
from dataprotection.selectors import Point, newest_elsewhere, newest_here
from dataprotection.services import space
from replication.choices import Direction
from replication.models import Replication
from replication.states import ReplicationState


@dataclass
class DomainRow:
    """The documented columns. `exclusive_bytes` None: the scan has not visited all its snapshots yet.

    `here` and `elsewhere`: what the domain can be recovered to; None: nothing yet.
    """

    domain: ProtectionDomain
    entity_count: int
    next_snapshot_at: datetime | None
    exclusive_bytes: int | None = None
    remote_sites: list[str] = field(default_factory=list)
    tx_rate: int = 0
    rx_rate: int = 0
    ongoing: int = 0
    pending: int = 0
    here: datetime | None = None
    elsewhere: list[Point] = field(default_factory=list)


def annotated() -> QuerySet[ProtectionDomain]:
    """Domains with what the table sorts by."""
    once = OneTimeSnapshot.objects.filter(domain=OuterRef("pk"), state=OneTimeState.SCHEDULED).order_by("run_at")
    return ProtectionDomain.objects.annotate(
        entity_total=Count("entities", distinct=True),
        next_at=Least(
            Min("schedules__next_due_at", filter=Q(schedules__suspended=False)), Subquery(once.values("run_at")[:1])
        ),
    )


def domain_rows(domains: Sequence[ProtectionDomain]) -> list[DomainRow]:
    """Complete a page of `annotated()` domains."""
    keys = [domain.pk for domain in domains]
    rows: dict[UUID, DomainRow] = {}
    for domain in domains:
        planned = domain.next_at if domain.mode == Mode.ACTIVE and not domain.schedules_suspended else None  # type: ignore[attr-defined]
        rows[domain.pk] = DomainRow(domain, domain.entity_total, planned)  # type: ignore[attr-defined]
    _add_sites(rows, keys)
    _add_replications(rows, keys)
    _add_points(rows, keys)
    for key, exclusive in space.exclusive_of(keys).items():
        rows[key].exclusive_bytes = exclusive
    return list(rows.values())


def _add_points(rows: dict[UUID, DomainRow], keys: list[UUID]) -> None:
    """Sites of a schedule that have no copy yet are named, too."""
    for key, at in newest_here(keys).items():
        rows[key].here = at
    arrived = newest_elsewhere(keys)
    for key, row in rows.items():
        points = {name: Point(name, None) for name in row.remote_sites}
        points |= {point.site: point for point in arrived.get(key, [])}
        row.elsewhere = [points[name] for name in sorted(points)]


def _add_sites(rows: dict[UUID, DomainRow], keys: list[UUID]) -> None:
    names: dict[UUID, set[str]] = defaultdict(set)
    for key, name in ScheduleRemote.objects.filter(schedule__domain__in=keys).values_list(
        "schedule__domain", "site__name"
    ):
        names[key].add(name)
    for key, found in names.items():
        rows[key].remote_sites = sorted(found)


def _add_replications(rows: dict[UUID, DomainRow], keys: list[UUID]) -> None:
    open_states = [ReplicationState.RUNNING, ReplicationState.PENDING]
    found = (
        Replication.objects.filter(domain_uuid__in=keys, state__in=open_states)
        .values_list("domain_uuid", "direction", "state")
        .annotate(n=Count("pk"), rate=Sum("rate_bytes_per_second"))
    )
    for key, direction, state, count, rate in found.order_by():
        row = rows[key]
        if state == ReplicationState.PENDING:
            row.pending += count
            continue
        row.ongoing += count
        if direction == Direction.OUT:
            row.tx_rate += rate or 0
        else:
            row.rx_rate += rate or 0
