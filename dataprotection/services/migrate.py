# SPDX-License-Identifier: Apache-2.0
"""Migrate: the planned change of sides. Nothing acknowledged is lost, and two sites are never active at once.

One task, whose phase is a column. Every step can be repeated, so a worker that dies is followed by another:

    CHECK        the site answers and sees no obstacle
    SNAPSHOT_1   the bulk, while guests still write          -> REPLICATE_1
    FENCE        exports down and snapshot 2 in one batch    -> REPLICATE_2
    HAND_OVER    the site is told to activate; from the moment this is stored its answer decides
    LEAVE        inactive here

A failure up to REPLICATE_2 brings the exports up again. An unknown answer in HAND_OVER leaves them down, phase
NEEDS_OPERATOR, and the task asks again until the site answers.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from dataprotection.choices import SnapshotKind
from dataprotection.models import ProtectionDomain
from dataprotection.services import domains, gating, handover, manifest, phases, taking, targets
from dataprotection.services.fencing import current_term
from dataprotection.services.taking import Order, Target
from dataprotection.states import Event, Phase
from prism.core.actor import Actor
from prism.core.engine import engine
from prism.core.exceptions import Conflict, Refused
from prism.core.models import Task
from prism.core.services import alerts, audit, tasks
from prism.core.services.sites import this_site
from replication.choices import Capability, Direction
from replication.exceptions import PeerRefused, PeerUnreachable
from replication.models import RemoteSite, Replication
from replication.rpc import client
from replication.services import task_rows
from replication.states import ReplicationState
from stargate.errors import StaleTerm, StargateError

HAND_OVER_TIMEOUT_SECONDS = 60.0
KIND = "domain.migrate"
SNAPSHOTS_KEPT = timedelta(days=7)
"""On both sides; the newest of a domain stays longer by itself."""
STEPS = ("CHECK", "SNAPSHOT_1", "REPLICATE_1", "FENCE", "REPLICATE_2", "HAND_OVER", "LEAVE")
FENCE_REASON = "the protection domain is being migrated to another site"


def migrate(domain: ProtectionDomain, *, site: RemoteSite, actor: Actor, idempotency_key: str | None = None) -> Task:
    """Order the migration to `site`. Of two orders at once one wins, the other gets IllegalTransition (409)."""
    from dataprotection.tasks import migrate_domain

    with audit.order(
        "domain.migrate", actor=actor, object_type=domains.TYPE, object_name=domain.name, atomic=False
    ) as detail:
        known = tasks.find_by_key(idempotency_key)
        if known is not None:
            return known
        detail["site"] = site.name
        if domain.phase != Phase.ACTIVE:
            raise phases.refusal(domain, Event.MIGRATE)
        taking.refuse_untakeable(domain)
        check_target(domain, site)
        with transaction.atomic():
            phases.fire(domain, Event.MIGRATE, actor=actor, reason=f"to {site.name}")
            task = tasks.create(
                KIND,
                actor=actor,
                object_type=domains.TYPE,
                object_name=domain.name,
                object_id=domain.uuid,
                arguments={"site": site.pk, "generation": phases.next_generation(domain)},
                idempotency_key=idempotency_key,
            )
            tasks.after_commit(migrate_domain.delay, str(task.pk), current_term())
    return task


def check_target(domain: ProtectionDomain, site: RemoteSite) -> None:
    """Raises Refused when the site cannot take the domain over: not reachable, too small, names taken ..."""
    if site.capability != Capability.DISASTER_RECOVERY:
        raise Conflict("backup_only", f"{site.name} is for backups only.", "Choose a site for disaster recovery.")
    members = [row for row in domain.entities.all() if row.target is not None]
    content = manifest.build(
        domain, members, site=this_site(), snapshot=uuid.uuid4(), local_id=0, created_at=timezone.now()
    )
    obstacles = client.call(site, "check_migrate", {"manifest": content}).get("obstacles", [])
    if obstacles:
        raise Conflict(
            "obstacles",
            f"{site.name} cannot take {domain.name} over: {' '.join(str(text)[:300] for text in obstacles[:5])}",
            "Remove the obstacles there, then order the migration again.",
        )


def run(task_uuid: str, *, term: int | None, baton: int | None = None) -> int | None:
    """One turn of the task: as many steps as can be made now. Returns the baton when it must be called again."""
    replaced = False
    with tasks.running(task_uuid, baton=baton) as task:
        if task is None:
            return None
        domain = ProtectionDomain.objects.get(pk=task.object_id)
        try:
            with phases.only_one(domain.uuid):
                _turn(task, domain, term)
        except StaleTerm:
            replaced = True  # the message of an older leader: the new one sends its own
            raise
    return None if task.finished or replaced else task.attempts


def _turn(task: Task, domain: ProtectionDomain, term: int | None) -> None:
    domain.refresh_from_db()
    actor = Actor.task(task.actor)
    site = RemoteSite.objects.get(pk=task.arguments["site"])
    if domain.phase == Phase.INACTIVE and task.phase == "HAND_OVER":
        tasks.succeed(task, message=f"{domain.name} is active on {site.name}.")  # only this word was missing
        return
    if domain.phase not in {Phase.MIGRATING_OUT, Phase.NEEDS_OPERATOR}:
        tasks.cancel(task, message=f"{domain.name} is {domain.phase} by now; somebody decided otherwise.")
        return
    try:
        while task.phase != "HAND_OVER":
            _before_hand_over(task, domain, site, term, actor)
    except tasks.PASSING:
        raise
    except (Refused, StargateError) as error:
        _give_up(task, domain, Event.MIGRATE_FAILED, f"{error}", term, actor)
        raise
    _hand_over(task, domain, site, term, actor)


def _before_hand_over(task: Task, domain: ProtectionDomain, site: RemoteSite, term: int | None, actor: Actor) -> None:
    """Make the step that `task.phase` names ("" = the first), then store the next one's name."""
    step = task.phase or STEPS[0]
    work: dict[str, Callable[[], object]] = {
        "CHECK": lambda: check_target(domain, site),
        "SNAPSHOT_1": lambda: taking.take(domain, _order(task, site, 1), term=term, actor=actor),
        "REPLICATE_1": lambda: _wait_for(task, site, 1),
        "FENCE": lambda: taking.take(domain, _order(task, site, 2), term=term, actor=actor),
        "REPLICATE_2": lambda: _wait_for(task, site, 2),
    }
    work[step]()
    tasks.progress(task, phase=STEPS[STEPS.index(step) + 1], message="")


def _order(task: Task, site: RemoteSite, number: int) -> Order:
    return Order(
        uuid=_snapshot_uuid(task, number),
        kind=SnapshotKind.MIGRATE,
        retention=SNAPSHOTS_KEPT,
        targets=[Target(site, int(SNAPSHOTS_KEPT.total_seconds()))],
        fence=number == 2,
        fence_reason=FENCE_REASON,
    )


def _snapshot_uuid(task: Task, number: int) -> uuid.UUID:
    return uuid.uuid5(task.pk, f"snapshot-{number}")


def _wait_for(task: Task, site: RemoteSite, number: int) -> None:
    """Raises NotYet while the snapshot travels, Conflict when it never will arrive."""
    row = (
        Replication.objects.filter(snapshot_uuid=_snapshot_uuid(task, number), site=site, direction=Direction.OUT)
        .order_by("-created_at")
        .first()
    )
    if row is None:
        raise Conflict("replication_gone", "The replication of the migration was removed.", "Order it again.")
    tasks.progress(task, done_bytes=row.done_bytes, total_bytes=row.total_bytes)
    held_up = task_rows.waits_for(row)
    if held_up != task.waits_for:
        tasks.progress(task, waits_for=held_up)
    if row.state == ReplicationState.SUCCEEDED:
        return
    if row.state in {ReplicationState.PENDING, ReplicationState.RUNNING, ReplicationState.PAUSED}:
        raise tasks.NotYet(f"Snapshot {row.display_id} is on its way to {site.name}. {row.error}".strip())
    raise Conflict(
        "replication_failed",
        f"Snapshot {row.display_id} did not reach {site.name}: {row.error or row.state}",
        "Remove the cause, then order the migration again.",
    )


def _hand_over(task: Task, domain: ProtectionDomain, site: RemoteSite, term: int | None, actor: Actor) -> None:
    try:
        refused = _tell(task, domain, site)
    except PeerUnreachable as error:
        _unknown(task, domain, site, str(error), actor)
        tasks.progress(task, waits_for=f"{site.name} to say whether it is active")
        raise tasks.NotYet(f"Waiting for {site.name} to say whether it is active.") from error
    if refused is not None:
        _give_up(task, domain, Event.PEER_REFUSED, f"{refused}", term, actor)
        raise refused
    tasks.progress(task, message="")
    _leave(domain, site, int(task.arguments["generation"]), actor)
    tasks.succeed(task, message=f"{domain.name} is active on {site.name}.")


def _tell(task: Task, domain: ProtectionDomain, site: RemoteSite) -> PeerRefused | None:
    """None: the site is active. A refusal counts only after the site confirmed that it is not active.

    Raises PeerUnreachable when its answer is unknown.
    """
    generation = int(task.arguments["generation"])
    payload: dict[str, Any] = {
        "domain": str(domain.uuid),
        "snapshot": str(_snapshot_uuid(task, 2)),
        "mode_generation": generation,
        "schedules": manifest.schedules_of(domain),
    }
    try:
        client.call(site, "activate_domain", payload, timeout=HAND_OVER_TIMEOUT_SECONDS)
    except PeerRefused as refused:
        try:
            state = targets.domain_state(domain, site)
        except PeerRefused as error:
            raise PeerUnreachable(f"{site.name} does not say whether it is active: {error.message}") from error
        active = state.get("mode") == "active" and int(state.get("mode_generation", 0)) >= generation
        return None if active else refused
    return None


def _leave(domain: ProtectionDomain, site: RemoteSite, generation: int, actor: Actor) -> None:
    """Inactive here, remembering what the other site has: should it be lost, an activation here must be above it."""
    for kind in ("change_mode_failure", "activation"):
        alerts.clear(kind, object_type=domains.TYPE, object_name=domain.name, object_id=domain.uuid)
    handover.take_down(domain, Event.PEER_ACTIVE, actor=actor, reason=f"migrated to {site.name}", generation=generation)


def _unknown(task: Task, domain: ProtectionDomain, site: RemoteSite, error: str, actor: Actor) -> None:
    if domain.phase == Phase.MIGRATING_OUT:
        phases.fire(domain, Event.PEER_SILENT, actor=actor, reason=error)
    _alert(domain, f"{site.name} was told to take {domain.name} over and has not answered; disks stay down: {error}")


def _give_up(task: Task, domain: ProtectionDomain, event: Event, error: str, term: int | None, actor: Actor) -> None:
    """Serve here again, as before the order."""
    keys = gating.disk_ids(domain)
    if keys and (task.phase or STEPS[0]) in STEPS[STEPS.index("FENCE") :]:
        engine().set_role(keys, "active", reason="", term=term)
    phases.fire(domain, event, actor=actor, reason=error)
    _alert(domain, f"The migration of {domain.name} failed: {error}")


def _alert(domain: ProtectionDomain, message: str) -> None:
    alerts.raise_alert(
        "change_mode_failure", message, object_type=domains.TYPE, object_name=domain.name, object_id=domain.uuid
    )
