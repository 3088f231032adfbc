# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is.

A *lane* is (site, domain): one snapshot of a domain is in flight per site, and the newest outstanding one goes first.
"""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime, timedelta

from celery import current_app
from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from prism.core.services import tasks
from replication.choices import Direction, ReplicationPhase
from replication.constants import BACKOFF_FIRST, BACKOFF_MAX, REENQUEUE_AFTER, TRANSFER_QUEUE, TRANSFER_TASK
from replication.models import Replication
from replication.services import notices
from replication.services.transitions import change
from replication.states import WORKER_SILENT_SECONDS, ReplicationEvent, ReplicationState

LEADER = "cerebro"
WORKER = "worker"


def enqueue(replication: Replication, *, at: datetime) -> None:
    """Send the message when the transaction commits. Losing it is harmless: the leader's sweep sends it again."""
    Replication.objects.filter(pk=replication.pk).update(enqueued_at=at)
    send = current_app.signature(TRANSFER_TASK, args=[str(replication.uuid)], queue=TRANSFER_QUEUE, app=current_app)
    tasks.after_commit(send.delay)


@transaction.atomic
def claim_next(site_id: int, domain_uuid: uuid.UUID, *, now: datetime, term: int) -> Replication | None:
    """Make the newest due replication of the lane RUNNING under a new owner token; older queued ones are SKIPPED.

    None when the lane is busy, empty or backing off: that is also what a second delivery of the same message gets.
    """
    queued = list(_due(site_id, domain_uuid, now).select_for_update().order_by("-snapshot_created_at", "-id"))
    waiting = [row for row in queued if not _expire_if_over(row, now)]
    if not waiting or (waiting[0].next_attempt_at or now) > now or not _start(waiting[0], now, term):
        return None
    for older in waiting[1:]:
        if change(older, ReplicationEvent.SKIP, actor=LEADER, at=now, reason=f"newer: {waiting[0].display_id}"):
            notices.skipped(older, newer=waiting[0])
    return waiting[0]


def _due(site_id: int, domain_uuid: uuid.UUID, now: datetime) -> QuerySet[Replication]:
    return Replication.objects.filter(
        site_id=site_id,
        domain_uuid=domain_uuid,
        direction=Direction.OUT,
        state=ReplicationState.PENDING,
        start_at__lte=now,
    )


def _start(row: Replication, now: datetime, term: int) -> bool:
    try:
        with transaction.atomic():
            return change(
                row,
                ReplicationEvent.START,
                actor=WORKER,
                at=now,
                owner=secrets.token_hex(16),
                term=term,
                phase=ReplicationPhase.OFFER,
                attempts=row.attempts + 1,
                started_at=row.started_at or now,
                heartbeat_at=now,
                next_attempt_at=None,
                error="",
            )
    except IntegrityError:
        # The unique constraint of the lane: another worker has one in flight.
        return False


def _expire_if_over(row: Replication, now: datetime) -> bool:
    """Expire a row whose time is over."""
    if row.expires_at is None or row.expires_at > now:
        return False
    if change(row, ReplicationEvent.EXPIRE, actor=LEADER, at=now, reason="its time was over before it was complete"):
        notices.expired(row)
    return True


def enqueue_next(row: Replication) -> None:
    """The lane of `row` is free: wake it for the newest row that can go now. One that backs off is the leader's."""
    now = timezone.now()
    waiting = _due(row.site_id, row.domain_uuid, now).filter(Q(next_attempt_at=None) | Q(next_attempt_at__lte=now))
    following = waiting.order_by("-snapshot_created_at", "-id").first()
    if following is not None:
        enqueue(following, at=now)


def backoff(attempts: int) -> timedelta:
    """Pause after the `attempts`-th attempt failed."""
    doublings = min(max(attempts, 1) - 1, 16)
    return min(BACKOFF_MAX, BACKOFF_FIRST * (1 << doublings))


def sweep(now: datetime) -> int:
    """The leader's part: expire, declare silent workers lost, send due messages. Returns how many messages went."""
    for row in _over(now):
        _expire_if_over(row, now)
    silent = now - timedelta(seconds=WORKER_SILENT_SECONDS)
    running = Replication.objects.filter(state=ReplicationState.RUNNING, direction=Direction.OUT)
    for row in running.filter(heartbeat_at__lt=silent):
        reason = f"its worker has been silent since {row.heartbeat_at:%H:%M:%S}"
        change(row, ReplicationEvent.WORKER_LOST, actor=LEADER, at=now, only_owner=row.owner, reason=reason)
    return _send_due(now)


def _over(now: datetime) -> QuerySet[Replication]:
    """Incoming ones end with their grant even while RUNNING; an outgoing one that runs is left to finish."""
    idle = Q(state__in=[ReplicationState.PENDING, ReplicationState.PAUSED])
    return Replication.objects.filter(
        idle | Q(state=ReplicationState.RUNNING, direction=Direction.IN), expires_at__lte=now
    )


def _send_due(now: datetime) -> int:
    """One message per idle lane with a due row, unless one was sent lately."""
    due = Replication.objects.filter(
        Q(next_attempt_at=None) | Q(next_attempt_at__lte=now),
        Q(enqueued_at=None) | Q(enqueued_at__lte=now - REENQUEUE_AFTER) | Q(enqueued_at__lt=F("next_attempt_at")),
        direction=Direction.OUT,
        state=ReplicationState.PENDING,
        start_at__lte=now,
    )
    busy = Replication.objects.filter(
        site=OuterRef("site"),
        domain_uuid=OuterRef("domain_uuid"),
        direction=Direction.OUT,
        state=ReplicationState.RUNNING,
    )
    rows = due.exclude(Exists(busy)).order_by("site_id", "domain_uuid", "-snapshot_created_at")
    lanes = rows.distinct("site_id", "domain_uuid")
    for row in lanes:
        enqueue(row, at=now)
    return len(lanes)
