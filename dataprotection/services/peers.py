# SPDX-License-Identifier: Apache-2.0
"""What other sites may ask of this one about domains and snapshots. Every handler can be repeated.

A peer may add snapshots and have a migrated domain activated. It cannot delete, shorten or change anything else.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from dataprotection.choices import Mode, SnapshotKind, SnapshotState
from dataprotection.models import ProtectionDomain, Snapshot, StorageContainer
from dataprotection.services import domains, gating, handover, manifest, phases, recover, stale
from dataprotection.services.fencing import current_term
from dataprotection.services.manifest import Manifest
from dataprotection.states import Event, Phase
from prism.core.actor import Actor
from prism.core.choices import Outcome
from prism.core.engine import engine
from prism.core.exceptions import Conflict, InvalidInput, NotFound, Refused
from prism.core.services import audit
from prism.core.services.sites import this_site
from replication.models import RemoteSite
from replication.rpc import registry
from replication.rpc.messages import OfferSnapshot, SnapshotArrived
from replication.rpc.registry import PeerCall
from replication.services import incoming
from stargate.errors import NotFound as EngineNotFound
from stargate.errors import StargateError

GRANT_SECONDS = 7 * 86_400.0
RETENTION_SECONDS_MAX = 100 * 366 * 86_400
QUOTA_SLACK = 1.05
"""Trees and headers beside the bytes of the disks."""
QUOTA_EXTRA_BYTES = 64 << 20


@dataclass(frozen=True)
class DomainState:
    """Do you know this domain? `name` also asks whether another one has the name."""

    domain: uuid.UUID
    name: str = ""


@dataclass(frozen=True)
class CheckMigrate:
    """Could you take this domain over?"""

    manifest: dict[str, Any]


@dataclass(frozen=True)
class ActivateDomain:
    """Take it over from this snapshot, which you have."""

    domain: uuid.UUID
    snapshot: uuid.UUID
    mode_generation: int
    schedules: list[dict[str, Any]]


@dataclass(frozen=True)
class AnnounceInactive:
    """I gave the domain up: ask me."""

    domain: uuid.UUID


@dataclass(frozen=True)
class AnnounceActive:
    """I am active with this generation."""

    domain: uuid.UUID
    mode_generation: int


def domain_state(_call: PeerCall, ask: DomainState) -> dict[str, Any]:
    """Waits for an activation that is under way, so that the answer is final."""
    with phases.only_one(ask.domain):
        domain = ProtectionDomain.objects.filter(pk=ask.domain).first()
    taken = ProtectionDomain.objects.filter(name=ask.name).exclude(pk=ask.domain).exists() if ask.name else False
    if domain is None:
        return {"known": False, "name_taken": taken}
    newest = Snapshot.objects.filter(domain=domain).order_by("-created_at").first()
    since = domain.transitions.first()
    return {
        "known": True,
        "name_taken": taken,
        "mode": domain.mode,
        "phase": domain.phase,
        "mode_generation": domain.mode_generation,
        "since": (since.at if since else domain.created_at).isoformat(),
        "newest_snapshot": str(newest.uuid) if newest else None,
    }


def check_migrate(call: PeerCall, ask: CheckMigrate) -> dict[str, Any]:
    """Sentences that say what is in the way; empty = nothing."""
    return {"obstacles": _obstacles(manifest.read(ask.manifest))}


def _obstacles(found: Manifest) -> list[str]:
    texts = []
    domain = ProtectionDomain.objects.filter(pk=found.domain_uuid).first()
    if domain is not None and domain.mode == Mode.ACTIVE:
        texts.append(f"{found.domain_name} is active here already.")
    if ProtectionDomain.objects.filter(name=found.domain_name).exclude(pk=found.domain_uuid).exists():
        texts.append(f"Another protection domain here is named {found.domain_name}.")
    for entry in found.entities:
        field = "path" if entry.type == "file" else "name"
        model: Any = recover.MODELS[entry.type]
        if model._default_manager.filter(**{field: entry.name}).exists():
            texts.append(f"There is a {entry.type.replace('_', ' ')} named {entry.name} here already.")
    short = _missing_bytes(found)
    if short > 0:
        texts.append(f"There is not enough free space here: {short} bytes are missing.")
    return texts


def _missing_bytes(found: Manifest) -> int:
    """How much space is lacking, if the disks of which we have no version yet were full of data."""
    have = {
        disk.uuid
        for row in Snapshot.objects.filter(domain=found.domain_uuid).order_by("-created_at")[:1]
        for entry in manifest.read(row.manifest).entities
        for disk in entry.disks
    }
    need = sum(disk.size_bytes for entry in found.entities for disk in entry.disks if disk.uuid not in have)
    return need - int(engine().usage()["free_bytes"])


def offer_snapshot(call: PeerCall, ask: OfferSnapshot) -> dict[str, Any]:
    """Grant the peer one incoming snapshot, or refuse with the reason."""
    found = manifest.read(ask.manifest)
    known = Snapshot.objects.filter(pk=found.snapshot_uuid).first()
    if known is not None and known.state != SnapshotState.DELETING:
        session = str(uuid.uuid4())
        _begin(call, ask, found, session)
        return {"session": session, "complete": True, "base": None, "fingerprinting": True}
    _refuse_offer(call, ask, found)
    session = str(uuid.uuid4())
    _begin(call, ask, found, session)
    quota = int(max(ask.bytes, found.size_bytes) * QUOTA_SLACK) + QUOTA_EXTRA_BYTES
    engine().grant(session, str(call.site.site_uuid), str(found.snapshot_uuid), quota, GRANT_SECONDS)
    base = Snapshot.objects.filter(pk=ask.base).exists() if ask.base else False
    return {
        "session": session,
        "complete": False,
        "base": str(ask.base) if base else None,
        "fingerprinting": _fingerprinting(found, call.site),
    }


def _begin(call: PeerCall, ask: OfferSnapshot, found: Manifest, session: str) -> None:
    shown = {**found.raw, "snapshot": {**found.raw["snapshot"], "display_id": found.composite_id}}
    incoming.begin(
        site=call.site,
        snapshot_uuid=found.snapshot_uuid,
        manifest=shown,
        retention_seconds=ask.retention_seconds,
        hidden_base=ask.hidden_base,
        session=session,
        grant_seconds=GRANT_SECONDS,
    )


def _refuse_offer(call: PeerCall, ask: OfferSnapshot, found: Manifest) -> None:
    if ask.retention_seconds is not None and not 0 < ask.retention_seconds <= RETENTION_SECONDS_MAX:
        raise InvalidInput("retention_seconds", "A snapshot is kept for at most 100 years.")
    if ProtectionDomain.objects.filter(name=found.domain_name).exclude(pk=found.domain_uuid).exists():
        raise Conflict(
            "name_taken",
            f"This site has another protection domain named {found.domain_name}.",
            "Delete or replace one of the two.",
        )
    domain = ProtectionDomain.objects.filter(pk=found.domain_uuid).first()
    if domain is not None and domain.mode == Mode.ACTIVE:
        raise Conflict(
            "active_on_multiple_sites",
            f"{found.domain_name} is active on this site.",
            "Deactivate it on the site whose data is stale.",
        )
    if domain is not None:
        _refuse_unbelievable(domain, found.mode_generation)
    short = _missing_bytes(found)
    if short > 0:
        raise Conflict("no_space", f"There is not enough free space here: {short} bytes are missing.")


def _fingerprinting(found: Manifest, site: RemoteSite) -> bool:
    """Off as soon as one of the receiving containers has it off."""
    mapping = {str(there): str(here) for here, there in site.container_map.items()}
    names = {mapping.get(entry.container, entry.container) for entry in found.entities}
    return not StorageContainer.objects.filter(name__in=names, fingerprinting=False).exists()


def snapshot_arrived(call: PeerCall, ask: SnapshotArrived) -> dict[str, Any]:
    """Publish a complete snapshot: the domain (inactive) and the row. The engine's word counts, not the peer's."""
    row = incoming.find(call.site, ask.session)
    if row is None or row.snapshot_uuid != ask.snapshot:
        raise NotFound("There is no such incoming snapshot.", "Offer it again.")
    if not Snapshot.objects.filter(pk=ask.snapshot).exists():
        try:
            received = engine().snapshot(str(ask.snapshot))
        except EngineNotFound as error:
            raise NotFound("The snapshot has not arrived completely.", "Send it again.") from error
        _refuse_other_content(received, row.manifest)
        with transaction.atomic():
            publish(manifest.read(row.manifest), row.retention_seconds, row.hidden_base)
    incoming.arrived(row)
    return {}


def _refuse_other_content(received: dict[str, Any], raw: dict[str, Any]) -> None:
    """The disks that arrived must be those of the manifest that was offered."""
    arrived = {(str(member["disk"]), int(member["size_bytes"])) for member in received["members"]}
    offered = {(str(d.uuid), d.size_bytes) for entry in manifest.read(raw).entities for d in entry.disks}
    if arrived != offered:
        raise Conflict("other_content", "What arrived is not what the manifest describes.", "Take a new snapshot.")


def publish(found: Manifest, retention_seconds: int | None, hidden_base: bool) -> Snapshot:
    """The row of a received snapshot; expiry counts from receipt, for the clocks of two sites differ."""
    domain, created = ProtectionDomain.objects.get_or_create(
        pk=found.domain_uuid,
        defaults={
            "name": found.domain_name,
            "mode": Mode.INACTIVE,
            "phase": Phase.INACTIVE,
            "mode_generation": found.mode_generation,
            "min_snapshots_to_retain": found.min_snapshots_to_retain,
        },
    )
    if created:
        domains.happened(domain, "protection_domain_received", f"{domain.name} arrived from {found.site_name}.")
    expires_at = timezone.now() + timedelta(seconds=retention_seconds) if retention_seconds is not None else None
    own = found.site_uuid == this_site().uuid
    return Snapshot.objects.get_or_create(
        pk=found.snapshot_uuid,
        defaults={
            "domain": domain,
            "domain_name": domain.name,
            "display_id": str(found.local_id) if own else found.composite_id,
            "cluster_id": found.cluster_id,
            "incarnation_id": found.incarnation_id,
            "local_id": found.local_id,
            "created_at": found.created_at,
            "expires_at": expires_at,
            "state": SnapshotState.AVAILABLE if expires_at else SnapshotState.RETAIN_FOREVER,
            "origin_site_uuid": found.site_uuid,
            "received": True,
            "kind": SnapshotKind.SCHEDULED,
            # Kept here like any other: LOCAL unticked is the wish of the sending site for itself.
            "hidden_base": False,
            "manifest": found.raw,
            "size_bytes": found.size_bytes,
        },
    )[0]


def activate_domain(call: PeerCall, ask: ActivateDomain) -> dict[str, Any]:
    """The peer has fenced its disks and we have its last snapshot: serve. Repeating it gives the same answer."""
    actor = Actor.peer(call.site.name, call.address)
    with phases.only_one(ask.domain):
        domain = ProtectionDomain.objects.filter(pk=ask.domain).first()
        if domain is None:
            raise NotFound("This site does not know that protection domain.", "Replicate it first.")
        with audit.order(
            "domain.activate", actor=actor, object_type=domains.TYPE, object_name=domain.name, atomic=False
        ):
            if domain.phase == Phase.ACTIVE and domain.mode_generation >= ask.mode_generation:
                handover.serve(domain, term=current_term())
            else:
                _activate(domain, ask, actor)
    return {"mode": domain.mode, "mode_generation": domain.mode_generation}


def _activate(domain: ProtectionDomain, ask: ActivateDomain, actor: Actor) -> None:
    row = Snapshot.objects.filter(pk=ask.snapshot, domain=domain).exclude(state=SnapshotState.DELETING).first()
    if row is None:
        raise NotFound("The snapshot to activate from is not here.", "Replicate it first.")
    if ask.mode_generation <= domain.mode_generation:
        raise Conflict("stale_generation", f"This site knows a newer activation of {domain.name}.")
    _refuse_unbelievable(domain, ask.mode_generation)
    found = manifest.read(row.manifest)
    phases.fire(domain, Event.WORKER_LOST if domain.phase == Phase.MIGRATING_IN else Event.RECEIVE, actor=actor)
    try:
        handover.bring_up(
            domain,
            found,
            event=Event.RECEIVED,
            mode_generation=ask.mode_generation,
            schedules=ask.schedules,
            term=current_term(),
            actor=actor,
        )
    except (Refused, StargateError) as error:
        domain.refresh_from_db()
        if domain.phase == Phase.MIGRATING_IN:
            phases.fire(domain, Event.RECEIVE_FAILED, actor=actor, reason=f"{error}")
        raise


def _refuse_unbelievable(domain: ProtectionDomain, generation: int) -> None:
    if not phases.believable(domain, generation):
        raise Conflict(
            "unbelievable_generation",
            f"No history of activations that this site knows leads to generation {generation} of {domain.name}.",
            "Activate the domain here by hand, if that is what is wanted.",
        )


def announce_active(call: PeerCall, ask: AnnounceActive) -> dict[str, Any]:
    """The peer serves the domain. If we do too, both say so; the higher generation is right."""
    domain = ProtectionDomain.objects.filter(pk=ask.domain).first()
    if domain is None:
        return {"known": False}
    actor = Actor.peer(call.site.name, call.address)
    audit.record("domain.announce_active", actor=actor, outcome=Outcome.OK, object_name=domain.name)
    if call.site.pk not in {site.pk for site in gating.peers_of(domain)}:
        stale.disbelieve(domain, call.site, "it never had the domain from here")
        return {"known": False}
    stale.compare(domain, call.site, {"mode": "active", "mode_generation": ask.mode_generation})
    domain.refresh_from_db()
    return {"known": True, "mode": domain.mode, "mode_generation": domain.mode_generation}


def announce_inactive(call: PeerCall, ask: AnnounceInactive) -> dict[str, Any]:
    """A hint, no more: what counts is what the peers answer when they are asked."""
    domain = ProtectionDomain.objects.filter(pk=ask.domain, phase=Phase.ACTIVE).first()
    if domain is None:
        return {"known": False}
    stale.check(domain)
    return {"known": True}


def register() -> None:
    """From `AppConfig.ready`."""
    registry.register("domain_state", DomainState, domain_state)
    registry.register("check_migrate", CheckMigrate, check_migrate)
    registry.register("offer_snapshot", OfferSnapshot, offer_snapshot)
    registry.register("snapshot_arrived", SnapshotArrived, snapshot_arrived)
    registry.register("activate_domain", ActivateDomain, activate_domain)
    registry.register("announce_active", AnnounceActive, announce_active)
    registry.register("announce_inactive", AnnounceInactive, announce_inactive)
