# SPDX-License-Identifier: Apache-2.0
"""Orders about one replication."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from prism.core.actor import Actor
from prism.core.engine import engine
from prism.core.exceptions import Conflict, InvalidInput, Refused
from prism.core.services import audit
from replication.choices import Direction, ReplicationPhase
from replication.models import RemoteSite, Replication
from replication.selectors import SnapshotFacts, snapshot_facts
from replication.services import notices, queue, task_rows
from replication.services.transitions import require
from replication.states import GIVEN_UP, ReplicationEvent
from stargate.errors import StargateError

log = logging.getLogger(__name__)


def request(
    *,
    snapshot_uuid: uuid.UUID | str,
    manifest: Mapping[str, Any],
    site: RemoteSite,
    retention_seconds: int | None,
    hidden_base: bool,
    actor: Actor,
    start_at: datetime | None = None,
) -> Replication:
    """Send a snapshot to `site`, from `start_at` (None = now) on.

    Returns the row; asking again for the same snapshot and site returns the same one unless that was given up
    (failed, aborted, expired, skipped). `retention_seconds` counts from receipt; None = for ever. Raises `Conflict`
    when the site is not paired, `InvalidInput` for a wrong manifest or retention.
    """
    facts = snapshot_facts(manifest)
    with audit.order(
        "replication.request", actor=actor, object_type="protection_domain", object_name=facts.domain_name
    ) as detail:
        detail.update(site=site.name, snapshot=str(snapshot_uuid))
        if not site.is_paired:
            raise Conflict("not_paired", f"The remote site {site.name} is not paired.", "Pair the two sites first.")
        if retention_seconds is not None and retention_seconds <= 0:
            raise InvalidInput("retention_seconds", "The retention must be longer than nothing.")
        wish = {"manifest": dict(manifest), "retention_seconds": retention_seconds, "hidden_base": hidden_base}
        row, created = _get_or_create(uuid.UUID(str(snapshot_uuid)), facts, site, start_at, wish)
        if created:
            task_rows.create(row, actor=actor)
            if row.start_at <= timezone.now():
                queue.enqueue(row, at=timezone.now())
            row.refresh_from_db()
    return row


def _get_or_create(
    snapshot_uuid: uuid.UUID,
    facts: SnapshotFacts,
    site: RemoteSite,
    start_at: datetime | None,
    wish: dict[str, Any],
) -> tuple[Replication, bool]:
    now = timezone.now()
    begin = max(start_at or now, now)
    rows = Replication.objects.exclude(state__in=GIVEN_UP)
    return rows.get_or_create(
        snapshot_uuid=snapshot_uuid,
        site=site,
        direction=Direction.OUT,
        defaults={
            "snapshot_created_at": facts.created_at,
            "domain_uuid": facts.domain_uuid,
            "domain_name": facts.domain_name,
            "display_id": facts.display_id,
            "total_bytes": facts.size_bytes,
            "start_at": begin,
            "expires_at": begin + timedelta(seconds=wish["retention_seconds"]) if wish["retention_seconds"] else None,
            "created_at": now,
            **wish,
        },
    )


def pause(replication: Replication, *, actor: Actor) -> Replication:
    """Stop sending; what has arrived stays with the receiver until its grant ends. Outgoing only."""
    with _order("pause", replication, actor):
        require(replication, ReplicationEvent.PAUSE, actor=actor.label)
        task_rows.waiting(
            replication, f"Paused by {actor.label}.", waits_for="an operator, who paused it, to resume it"
        )
        notices.happened(replication, "paused")
    _stop_engine(replication)
    return replication


def resume(replication: Replication, *, actor: Actor) -> Replication:
    """Queue a paused replication again; it goes on where it stopped."""
    with _order("resume", replication, actor):
        require(
            replication,
            ReplicationEvent.RESUME,
            actor=actor.label,
            phase=ReplicationPhase.QUEUED,
            next_attempt_at=None,
            error="",
        )
        task_rows.waiting(replication, "", waits_for="its turn")
        notices.happened(replication, "resumed")
        queue.enqueue(replication, at=timezone.now())
    return replication


def abort(replication: Replication, *, actor: Actor) -> Replication:
    """Give it up; the half-received snapshot stays invisible at the receiver and is swept there."""
    with _order("abort", replication, actor):
        require(replication, ReplicationEvent.ABORT, actor=actor.label)
        task_rows.cancel(replication, "Aborted by an operator.")
        notices.happened(replication, "aborted")
    _stop_engine(replication)
    return replication


def _order(verb: str, row: Replication, actor: Actor) -> Any:
    if row.direction != Direction.OUT:
        raise Conflict(
            "incoming", "This snapshot is being received.", f"Order it on the sending site, {row.site.name}."
        )
    return audit.order(
        f"replication.{verb}", actor=actor, object_type="replication", object_name=f"{row.domain_name} {row.display_id}"
    )


def _stop_engine(row: Replication) -> None:
    """The row decides, so this is only haste: a living worker sees the row within a second and cancels as well."""
    try:
        engine().sync_cancel(str(row.uuid))
    except (StargateError, Refused) as error:
        log.info("replication %s: engine not told to stop: %s", row.uuid, error)
