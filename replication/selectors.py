# SPDX-License-Identifier: Apache-2.0
"""Questions that several callers ask."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from prism.core.exceptions import InvalidInput
from replication.choices import Direction
from replication.models import LeaderState, RemoteSite, Replication
from replication.states import ReplicationState

BASES_MAX = 5


@dataclass(frozen=True)
class SnapshotFacts:
    """What replication needs to know of a manifest (format 1); all else in it is the upper app's."""

    domain_uuid: uuid.UUID
    domain_name: str
    display_id: str
    created_at: datetime
    size_bytes: int  # sum over all disks
    disks: tuple[str, ...]  # names of the disks in the engine


def snapshot_facts(manifest: Mapping[str, Any]) -> SnapshotFacts:
    """Read a manifest; raises `InvalidInput` when it is not one (it may come from a peer)."""
    try:
        snapshot, domain = manifest["snapshot"], manifest["domain"]
        disks = [disk for entity in manifest["entities"] for disk in entity.get("disks", [])]
        facts = SnapshotFacts(
            domain_uuid=uuid.UUID(str(domain["uuid"])),
            domain_name=str(domain["name"])[:75],
            display_id=str(snapshot.get("display_id") or snapshot["local_id"])[:64],
            created_at=_moment(snapshot["created_at"]),
            size_bytes=sum(int(disk["size_bytes"]) for disk in disks),
            disks=tuple(str(disk["uuid"]) for disk in disks),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput("manifest", f"This is not a snapshot manifest: {type(error).__name__} {error}.") from error
    if facts.size_bytes < 0:
        raise InvalidInput("manifest", "This is not a snapshot manifest: a disk has a negative size.")
    return facts


def _moment(value: object) -> datetime:
    parsed = value if isinstance(value, datetime) else parse_datetime(str(value))
    if parsed is None or timezone.is_naive(parsed):
        raise ValueError("created_at needs a date, a time and a zone")
    return parsed


def current_term() -> int:
    """Term of the newest leader of this site; 0 before the first."""
    return LeaderState.objects.filter(pk=1).values_list("term", flat=True).first() or 0


def newest_common(site: RemoteSite, domain_uuid: uuid.UUID, *, before: datetime) -> list[uuid.UUID]:
    """Snapshots of the domain, older than `before`, that both sites got, either way: newest first, at most 5."""
    done = Replication.objects.filter(site=site, domain_uuid=domain_uuid, state=ReplicationState.SUCCEEDED)
    older = done.filter(snapshot_created_at__lt=before).order_by("-snapshot_created_at", "-id")
    return list(older.values_list("snapshot_uuid", flat=True)[:BASES_MAX])


def running() -> list[Replication]:
    """Transfers that are under way now, both directions."""
    return list(
        Replication.objects.filter(state=ReplicationState.RUNNING).select_related("site").order_by("started_at")
    )


def backlog() -> int:
    """How many outgoing replications wait."""
    return Replication.objects.filter(state=ReplicationState.PENDING, direction=Direction.OUT).count()
