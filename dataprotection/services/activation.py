# SPDX-License-Identifier: Apache-2.0
"""Activate (unplanned, the other side is not asked) and deactivate (the stale side gives way)."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from dataprotection.choices import SnapshotKind, SnapshotState
from dataprotection.models import ProtectionDomain, Snapshot
from dataprotection.services import domains, gating, handover, manifest, phases, taking
from dataprotection.services.fencing import current_term
from dataprotection.states import Event, Phase
from prism.core.actor import Actor
from prism.core.engine import engine
from prism.core.exceptions import Conflict, InvalidInput, Refused
from prism.core.models import Task
from prism.core.services import alerts, audit, tasks
from replication.rpc import client
from stargate.errors import StargateError

log = logging.getLogger(__name__)

ACTIVATE = "domain.activate"
DEACTIVATE = "domain.deactivate"
TELL_SECONDS = 10.0


def activate(
    domain: ProtectionDomain,
    *,
    snapshot: Snapshot | None = None,
    force: bool = False,
    actor: Actor,
    idempotency_key: str | None = None,
) -> Task:
    """Serve an inactive domain here from its newest complete snapshot (or `snapshot`).

    `force`: for a migration whose target was lost for good: serve the fenced disks here again. The operator vouches
    that the target will not serve; should it come back, this side's higher generation wins.
    """
    from dataprotection.tasks import activate_domain

    with audit.order(ACTIVATE, actor=actor, object_type=domains.TYPE, object_name=domain.name) as detail:
        known = tasks.find_by_key(idempotency_key)
        if known is not None:
            return known
        domain.refresh_from_db()
        if domain.phase == Phase.NEEDS_OPERATOR and force:
            event, chosen, generation = Event.FORCE_ACTIVE, "", phases.next_generation(domain) + 1
        else:
            event = Event.ACTIVATE
            if domain.phase != Phase.INACTIVE:
                raise phases.refusal(domain, event)
            row = _source(domain, snapshot)
            chosen = str(row.uuid)
            generation = phases.next_generation(domain, manifest.read(row.manifest).mode_generation)
            detail["snapshot"] = row.display_id
        phases.fire(domain, event, actor=actor)
        task = tasks.create(
            ACTIVATE,
            actor=actor,
            object_type=domains.TYPE,
            object_name=domain.name,
            object_id=domain.uuid,
            arguments={"snapshot": chosen, "generation": generation},
            idempotency_key=idempotency_key,
        )
        tasks.after_commit(activate_domain.delay, str(task.pk), current_term())
    return task


def _source(domain: ProtectionDomain, wanted: Snapshot | None) -> Snapshot:
    if wanted is not None and wanted.domain_id != domain.pk:
        raise InvalidInput("snapshot", f"Snapshot {wanted.display_id} is not one of {domain.name}.")
    rows = Snapshot.objects.filter(
        domain=domain, state__in=[SnapshotState.AVAILABLE, SnapshotState.RETAIN_FOREVER]
    ).order_by("-created_at", "-local_id")
    row = rows.filter(pk=wanted.pk).first() if wanted is not None else rows.first()
    if row is None:
        raise Conflict(
            "no_snapshot",
            f"{domain.name} has no complete snapshot on this site to activate from.",
            "Wait until a replication to this site is complete.",
        )
    return row


def run_activate(task_uuid: str, *, term: int | None) -> None:
    """The body of the task; repeating it after a crash finishes the same activation."""
    with tasks.running(task_uuid) as task:
        if task is None:
            return
        domain, actor = ProtectionDomain.objects.get(pk=task.object_id), Actor.task(task.actor)
        with phases.only_one(domain.uuid):
            domain.refresh_from_db()
            if task.arguments["snapshot"]:
                _activate_from(task, domain, term, actor)
            else:
                _serve_again(task, domain, term)
        announce(domain)
        tasks.succeed(task, message=f"{domain.name} is active on this site. VMs are powered off.")


def _activate_from(task: Task, domain: ProtectionDomain, term: int | None, actor: Actor) -> None:
    if domain.phase != Phase.ACTIVATING:
        handover.serve(domain, term=term)
        return
    try:
        found = manifest.read(Snapshot.objects.get(pk=task.arguments["snapshot"]).manifest)
        handover.bring_up(
            domain,
            found,
            event=Event.ACTIVATED,
            mode_generation=task.arguments["generation"],
            schedules=found.schedules,
            term=term,
            actor=actor,
        )
    except tasks.PASSING:
        raise
    except (Refused, StargateError, Snapshot.DoesNotExist) as error:
        domain.refresh_from_db()
        if domain.phase == Phase.ACTIVATING:
            phases.fire(domain, Event.ACTIVATE_FAILED, actor=actor, reason=f"{error}")
        _alert(domain, f"The activation of {domain.name} failed: {error}")
        raise


def _serve_again(task: Task, domain: ProtectionDomain, term: int | None) -> None:
    ProtectionDomain.objects.filter(pk=domain.pk).update(mode_generation=task.arguments["generation"])
    domain.refresh_from_db()
    handover.serve(domain, term=term)


def announce(domain: ProtectionDomain) -> None:
    """Tell the peers that we are active; one that does not answer asks by itself when it starts."""
    _tell(domain, "announce_active", {"domain": str(domain.uuid), "mode_generation": domain.mode_generation})


def _tell(domain: ProtectionDomain, call: str, payload: dict[str, Any]) -> None:
    for site in gating.peers_of(domain):
        try:
            client.call(site, call, payload, timeout=TELL_SECONDS)
        except Refused as error:
            log.info("%s did not hear %s of %s: %s", site.name, call, domain.name, error)


def deactivate(domain: ProtectionDomain, *, actor: Actor, idempotency_key: str | None = None) -> Task:
    """Make the domain inactive here. Its state is kept as a snapshot without expiration, then its entities leave."""
    from dataprotection.tasks import deactivate_domain

    with audit.order(DEACTIVATE, actor=actor, object_type=domains.TYPE, object_name=domain.name):
        known = tasks.find_by_key(idempotency_key)
        if known is not None:
            return known
        phases.fire(domain, Event.DEACTIVATE, actor=actor)
        task = tasks.create(
            DEACTIVATE,
            actor=actor,
            object_type=domains.TYPE,
            object_name=domain.name,
            object_id=domain.uuid,
            idempotency_key=idempotency_key,
        )
        tasks.after_commit(deactivate_domain.delay, str(task.pk), current_term())
    return task


def run_deactivate(task_uuid: str, *, term: int | None) -> None:
    """The body of the task: fence and snapshot in one engine call, then the rows go."""
    with tasks.running(task_uuid) as task:
        if task is None:
            return
        domain, actor = ProtectionDomain.objects.get(pk=task.object_id), Actor.task(task.actor)
        with phases.only_one(domain.uuid):
            domain.refresh_from_db()
            if domain.phase == Phase.DEACTIVATING:
                _deactivate(task, domain, term, actor)
        # Outside of the lock: the peer asks back.
        _tell(domain, "announce_inactive", {"domain": str(domain.uuid)})
        tasks.succeed(task, message=f"{domain.name} is inactive on this site.")


def _deactivate(task: Task, domain: ProtectionDomain, term: int | None, actor: Actor) -> None:
    keys = gating.disk_ids(domain)
    try:
        if keys and taking.has_members(domain):
            _keep_state(task, domain, term, actor)
        handover.take_down(domain, Event.DEACTIVATED, actor=actor, reason="deactivated by an operator")
    except tasks.PASSING:
        raise
    except (Refused, StargateError) as error:
        if keys:
            engine().set_role(keys, "active", reason="", term=term)
        phases.fire(domain, Event.DEACTIVATE_FAILED, actor=actor, reason=f"{error}")
        _alert(domain, f"The deactivation of {domain.name} failed: {error}")
        raise


def _keep_state(task: Task, domain: ProtectionDomain, term: int | None, actor: Actor) -> None:
    order = taking.Order(
        uuid=uuid.uuid5(task.pk, "deactivate"),
        kind=SnapshotKind.DEACTIVATE,
        fence=True,
        fence_reason="the protection domain was deactivated here",
    )
    taking.take(domain, order, term=term, actor=actor)


def _alert(domain: ProtectionDomain, message: str) -> None:
    alerts.raise_alert("change_mode_failure", message, **_about(domain))


def _about(domain: ProtectionDomain) -> dict[str, str]:
    return {"object_type": domains.TYPE, "object_name": domain.name, "object_id": str(domain.uuid)}
