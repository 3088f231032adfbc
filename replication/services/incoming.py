# SPDX-License-Identifier: Apache-2.0
"""Rows of snapshots that another site sends here. Called by the upper app's handlers of the two snapshot calls."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.utils import timezone

from replication.choices import Direction, ReplicationPhase
from replication.models import RemoteSite, Replication
from replication.selectors import snapshot_facts
from replication.services import notices
from replication.services.transitions import change
from replication.states import ReplicationEvent, ReplicationState

ACTOR = "peer"
_OPEN = [ReplicationState.RUNNING, ReplicationState.SUCCEEDED]


def begin(
    *,
    site: RemoteSite,
    snapshot_uuid: uuid.UUID,
    manifest: Mapping[str, Any],
    retention_seconds: int | None,
    hidden_base: bool,
    session: str,
    grant_seconds: float,
) -> Replication:
    """`site` may send; repeating it returns the row with the new session and grant. Raises `InvalidInput`."""
    facts = snapshot_facts(manifest)
    now = timezone.now()
    lease = {"session": session, "expires_at": now + timedelta(seconds=grant_seconds), "heartbeat_at": now}
    row, created = Replication.objects.filter(state__in=_OPEN).get_or_create(
        site=site,
        snapshot_uuid=snapshot_uuid,
        direction=Direction.IN,
        defaults={
            "snapshot_created_at": facts.created_at,
            "domain_uuid": facts.domain_uuid,
            "domain_name": facts.domain_name,
            "display_id": facts.display_id,
            "manifest": dict(manifest),
            "retention_seconds": retention_seconds,
            "hidden_base": hidden_base,
            "total_bytes": facts.size_bytes,
            "state": ReplicationState.RUNNING,
            "phase": ReplicationPhase.SYNC,
            "start_at": now,
            "created_at": now,
            "started_at": now,
            **lease,
        },
    )
    if not created:
        # The sender lost our answer: it goes on under the new session, even where only its `snapshot_arrived` is left.
        Replication.objects.filter(pk=row.pk).update(session=session)
        Replication.objects.filter(pk=row.pk, state=ReplicationState.RUNNING).update(**lease)
        row.refresh_from_db()
    return row


def find(site: RemoteSite, session: str) -> Replication | None:
    """The incoming row of a session; None when `site` has no such session."""
    return Replication.objects.filter(site=site, session=session, direction=Direction.IN).first()


def arrived(row: Replication) -> bool:
    """The snapshot is complete and published here. False when it had been so, or was given up, already."""
    fields: dict[str, Any] = {"phase": ReplicationPhase.DONE, "done_bytes": row.total_bytes}
    if not change(row, ReplicationEvent.SUCCEED, actor=ACTOR, expires_at=None, **fields):
        return False
    notices.completed(row)
    return True


def failed(row: Replication, error: str) -> bool:
    """It cannot be received. False when it was over already."""
    if not change(row, ReplicationEvent.FAIL, actor=ACTOR, reason=error, error=error):
        return False
    notices.failed(row)
    return True


def withdrawn(row: Replication, reason: str, *, failed: bool) -> bool:
    """Its sender gave it up. False when it was over already."""
    text = f"{row.site.name} gave it up: {reason}"
    event = ReplicationEvent.FAIL if failed else ReplicationEvent.ABORT
    if not change(row, event, actor=ACTOR, reason=text, error=text):
        return False
    if failed:
        notices.failed(row)
    else:
        notices.happened(row, "aborted")
    return True
