# SPDX-License-Identifier: Apache-2.0
"""Snapshots on an operator's order or a schedule's, and what happens to them later."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from dataprotection.choices import OneTimeState, SnapshotKind, SnapshotState
from dataprotection.models import OneTimeSnapshot, ProtectionDomain, Schedule, Snapshot
from dataprotection.services import bases, domains, grid, retention, taking, targets
from dataprotection.services.fencing import current_term
from dataprotection.services.taking import Order, Target
from prism.core.actor import Actor
from prism.core.exceptions import Conflict, InvalidInput, Refused
from prism.core.services import alerts, audit, tasks
from replication.models import RemoteSite
from stargate.errors import StargateError

RETENTION_SECONDS_MIN = 60
RETENTION_SECONDS_MAX = 100 * 366 * 86_400
BASE_KEPT = timedelta(days=1)
"""A hidden base is kept at least this long, then until a newer common snapshot has taken its place."""


def take(
    domain: ProtectionDomain,
    *,
    local: bool = True,
    sites: Sequence[RemoteSite] = (),
    run_at: datetime | None = None,
    retention_seconds: int | None = None,
    app_consistent: bool = False,
    actor: Actor,
    idempotency_key: str | None = None,
) -> OneTimeSnapshot:
    """Order a snapshot now (`run_at` None or past; then `.task` is set) or later. Retention None = for ever."""
    with audit.order("snapshot.take", actor=actor, object_type=domains.TYPE, object_name=domain.name) as detail:
        known = OneTimeSnapshot.objects.filter(task=tasks.find_by_key(idempotency_key), task__isnull=False).first()
        if known is not None:
            return known
        taking.refuse_untakeable(domain)
        _check_order(local=local, sites=sites, retention_seconds=retention_seconds)
        targets.checked(domain, [site.pk for site in sites])
        now = timezone.now()
        order = OneTimeSnapshot.objects.create(
            domain=domain,
            run_at=max(run_at or now, now),
            local=local,
            retention_seconds=retention_seconds,
            app_consistent=app_consistent,
            ordered_by=actor.label,
        )
        order.sites.set(sites)
        detail.update(local=local, sites=[site.name for site in sites], retention_seconds=retention_seconds)
        if order.run_at <= now:
            start_one_time(order, actor=actor, idempotency_key=idempotency_key)
    return order


def _check_order(*, local: bool, sites: Sequence[RemoteSite], retention_seconds: int | None) -> None:
    if not local and not sites:
        raise InvalidInput("local", "The snapshot would be kept nowhere.", "Tick Local or a remote site.")
    if retention_seconds is not None and not RETENTION_SECONDS_MIN <= retention_seconds <= RETENTION_SECONDS_MAX:
        raise InvalidInput(
            "retention_seconds", "A snapshot is kept for one minute to 100 years.", "Or choose No Expiration."
        )


def start_one_time(order: OneTimeSnapshot, *, actor: Actor, idempotency_key: str | None = None) -> None:
    """Give a due order its task. Call inside a transaction; a second caller finds it started and does nothing."""
    from dataprotection.tasks import take_one_time

    changed = OneTimeSnapshot.objects.filter(pk=order.pk, state=OneTimeState.SCHEDULED).update(
        state=OneTimeState.RUNNING
    )
    if not changed:
        return
    order.task = tasks.create(
        "snapshot.take",
        actor=actor,
        object_type=domains.TYPE,
        object_name=order.domain.name,
        object_id=order.domain_id,
        arguments={"one_time": str(order.uuid)},
        idempotency_key=idempotency_key,
    )
    OneTimeSnapshot.objects.filter(pk=order.pk).update(task=order.task)
    order.state = OneTimeState.RUNNING
    tasks.after_commit(take_one_time.delay, str(order.task.pk), current_term())


def run_one_time(task_uuid: str, *, term: int | None) -> None:
    """The body of the task: take the snapshot of a one-time order. Harmless when repeated."""
    with tasks.running(task_uuid) as task:
        if task is None:
            return
        order = OneTimeSnapshot.objects.select_related("domain").get(pk=task.arguments["one_time"])
        actor = Actor.task(task.actor)
        try:
            with audit.order(
                "snapshot.run", actor=actor, object_type=domains.TYPE, object_name=order.domain.name, atomic=False
            ):
                taking.refuse_untakeable(order.domain)
                row = taking.take(order.domain, _one_time_order(order), term=term, actor=actor)
        except (Refused, StargateError):
            OneTimeSnapshot.objects.filter(pk=order.pk).update(state=OneTimeState.FAILED)
            raise
        OneTimeSnapshot.objects.filter(pk=order.pk).update(state=OneTimeState.DONE)
        tasks.succeed(task, message=f"Snapshot {row.display_id} was taken.", result={"snapshot": str(row.uuid)})


def _one_time_order(order: OneTimeSnapshot) -> Order:
    kept = timedelta(seconds=order.retention_seconds) if order.retention_seconds is not None else None
    return Order(
        uuid=uuid.uuid5(order.uuid, "snapshot"),
        kind=SnapshotKind.ONE_TIME,
        retention=kept if order.local else BASE_KEPT,
        hidden_base=not order.local,
        app_consistent=order.app_consistent,
        targets=[Target(site, order.retention_seconds) for site in order.sites.all()],
        one_time_uuid=order.uuid,
    )


def cancel(order: OneTimeSnapshot, *, actor: Actor) -> OneTimeSnapshot:
    """Give up an order for later; one that started is refused."""
    with audit.order("snapshot.cancel", actor=actor, object_type=domains.TYPE, object_name=order.domain.name):
        waiting = OneTimeSnapshot.objects.filter(pk=order.pk, state=OneTimeState.SCHEDULED)
        if not waiting.update(state=OneTimeState.CANCELLED):
            raise Conflict("already_started", "The snapshot is being taken or was taken.", "Delete it afterwards.")
        order.refresh_from_db()
    return order


def run_scheduled(task_uuid: str, *, term: int | None) -> None:
    """The body of the task: take the snapshot that a schedule owes for one grid point. Harmless when repeated.

    The snapshot's uuid follows from schedule and time. A refusal (inactive, stale, empty) raises the documented alert.
    """
    with tasks.running(task_uuid) as task:
        if task is None:
            return
        schedule = Schedule.objects.select_related("domain").filter(pk=task.arguments["schedule"]).first()
        if schedule is None or schedule.suspended or schedule.domain.schedules_suspended:
            tasks.cancel(task, message="The schedule was removed or suspended in the meantime.")
            return
        domain, actor = schedule.domain, Actor.task("schedule")
        about: dict[str, Any] = {"object_type": domains.TYPE, "object_name": domain.name, "object_id": domain.uuid}
        try:
            with audit.order(
                "snapshot.scheduled", actor=actor, object_type=domains.TYPE, object_name=domain.name, atomic=False
            ):
                taking.refuse_untakeable(domain)
                order = _scheduled_order(schedule, datetime.fromisoformat(task.arguments["due_at"]))
                row = taking.take(domain, order, term=term, actor=actor)
        except Refused as error:
            alerts.raise_alert("snapshot_skipped", f"A due snapshot of {domain.name} was skipped: {error}", **about)
            raise
        alerts.clear("snapshot_skipped", **about)
        Schedule.objects.filter(pk=schedule.pk).update(last_fired_at=row.created_at)
        tasks.succeed(task, message=f"Snapshot {row.display_id} was taken.", result={"snapshot": str(row.uuid)})


def _scheduled_order(schedule: Schedule, due_at: datetime) -> Order:
    step = grid.interval(schedule)
    return Order(
        uuid=uuid.uuid5(schedule.uuid, due_at.isoformat()),
        kind=SnapshotKind.SCHEDULED,
        retention=step * schedule.local_keep if schedule.local_ticked else max(step, BASE_KEPT),
        hidden_base=not schedule.local_ticked,
        app_consistent=schedule.app_consistent,
        targets=[
            Target(found.site, int((step * found.keep).total_seconds()))
            for found in schedule.remotes.select_related("site")
        ],
        schedule_uuid=schedule.uuid,
    )


def delete(snapshot: Snapshot, *, actor: Actor) -> Snapshot:
    """Delete a snapshot. Its space comes back with the engine's next sweep. Refused while it is being sent."""
    with audit.order(
        "snapshot.delete", actor=actor, object_type="snapshot", object_name=snapshot.display_id, atomic=False
    ):
        domain = snapshot.domain
        if domain is not None and snapshot.uuid in bases.in_flight(domain.uuid):
            raise Conflict(
                "snapshot_in_use",
                f"Snapshot {snapshot.display_id} is being replicated.",
                "Wait for the replication, or abort it.",
            )
        retention.remove(snapshot, term=current_term(), reason=f"Ordered by {actor.label}.")
    return snapshot


def retain(snapshot: Snapshot, *, retention_seconds: int | None, actor: Actor) -> Snapshot:
    """Set a new expiry, counted from now; None = no expiration. An expired snapshot that still exists comes back."""
    with audit.order("snapshot.retain", actor=actor, object_type="snapshot", object_name=snapshot.display_id) as detail:
        detail["retention_seconds"] = retention_seconds
        _check_order(local=True, sites=(), retention_seconds=retention_seconds)
        values: dict[str, object] = {"state": SnapshotState.RETAIN_FOREVER, "expires_at": None}
        if retention_seconds is not None:
            expires_at = timezone.now() + timedelta(seconds=retention_seconds)
            values = {"state": SnapshotState.AVAILABLE, "expires_at": expires_at}
        mine = Snapshot.objects.filter(pk=snapshot.pk).exclude(state=SnapshotState.DELETING)
        if not mine.update(**values):
            raise Conflict("snapshot_deleting", f"Snapshot {snapshot.display_id} is being deleted.")
        snapshot.refresh_from_db()
    return snapshot


def enqueue_due(now: datetime) -> int:
    """The leader's part, every second: hand due schedules and one-time orders to the workers. Returns how many."""
    sent = 0
    due = Schedule.objects.filter(next_due_at__lte=now, suspended=False, domain__mode="active")
    with transaction.atomic():
        for schedule in due.select_for_update(skip_locked=True, of=("self",)).select_related("domain"):
            due_at = schedule.next_due_at or now
            # However many points were missed while nobody led: one snapshot makes up for all of them.
            Schedule.objects.filter(pk=schedule.pk).update(next_due_at=grid.next_due(schedule, now))
            _start_scheduled(schedule, due_at)
            sent += 1
    with transaction.atomic():
        orders = OneTimeSnapshot.objects.filter(state=OneTimeState.SCHEDULED, run_at__lte=now)
        for order in orders.select_for_update(skip_locked=True, of=("self",)).select_related("domain"):
            start_one_time(order, actor=Actor.task(order.ordered_by))
            sent += 1
    return sent


def _start_scheduled(schedule: Schedule, due_at: datetime) -> None:
    from dataprotection.tasks import take_scheduled

    task = tasks.create(
        "snapshot.scheduled",
        actor=Actor.task("schedule"),
        object_type=domains.TYPE,
        object_name=schedule.domain.name,
        object_id=schedule.domain_id,
        arguments={"schedule": str(schedule.uuid), "due_at": due_at.isoformat()},
        idempotency_key=f"schedule:{schedule.uuid}:{due_at.isoformat()}",
    )
    tasks.after_commit(take_scheduled.delay, str(task.pk), current_term())
