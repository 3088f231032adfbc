# SPDX-License-Identifier: Apache-2.0
"""What `accept-loss` kept: all disks as they were before a damaged part of the log, as a snapshot of the engine that
belongs to no protection domain (design note 0007).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from dataprotection.models import VirtualDisk
from dataprotection.services import membership, phases
from dataprotection.services.disk_states import states_of
from dataprotection.services.disks import nbd_uri_of
from dataprotection.services.fencing import current_term
from dataprotection.states import Phase
from prism.core.actor import Actor
from prism.core.engine import engine
from prism.core.exceptions import Conflict, NotFound, Unreachable
from prism.core.services import alerts, audit
from stargate.errors import NotFound as NoSuchSnapshot
from stargate.errors import StargateError

OWNER = "accept-loss"
ALERT = "loss_accepted"


@dataclass(frozen=True)
class KeptDisk:
    """`disk` None: it is not in the inventory any more. `role` "": the engine does not have it. `nbd_uri`: the kept
    bytes, read-only.
    """

    uuid: UUID
    size_bytes: int
    disk: VirtualDisk | None
    role: str
    nbd_uri: str

    @property
    def can_come_back(self) -> bool:
        """Whether it is down, and hence still as it was kept."""
        return self.disk is not None and self.role == "down"


@dataclass(frozen=True)
class Kept:
    """`position`: where the log broke off, None = not written down."""

    uuid: UUID
    created_at: datetime
    position: int | None
    disks: list[KeptDisk]

    @property
    def waiting(self) -> list[KeptDisk]:
        """Disks that can be brought back."""
        return [disk for disk in self.disks if disk.can_come_back]


def all_kept() -> list[Kept]:
    """Newest first; usually none. Raises StargateError, Unreachable."""
    found = [_read(told) for told in engine().snapshots(OWNER)]
    return sorted(found, key=lambda kept: kept.created_at, reverse=True)


def one(uuid: UUID) -> Kept:
    """Raises NotFound, also for a snapshot of another origin."""
    try:
        told = engine().snapshot(str(uuid))
    except NoSuchSnapshot as error:
        raise NotFound("There is no such kept state.") from error
    if told["owner"] != OWNER:
        raise NotFound("There is no such kept state.")
    return _read(told)


def bring_back(uuid: UUID, *, actor: Actor) -> list[VirtualDisk]:
    """Serve all disks that `accept-loss` left down, as they were before the damage. The others stay as they are."""
    with audit.order(
        "kept.bring_back", actor=actor, object_type="kept_snapshot", object_name=str(uuid), atomic=False
    ) as detail:
        disks = [found.disk for found in one(uuid).waiting if found.disk is not None]
        if not disks:
            raise Conflict("nothing_waits", "None of its disks is down here.", "Read others over their NBD address.")
        detail["disks"] = [disk.export_name for disk in disks]
        with ExitStack() as held:
            _hold_domains(disks, held)
            keys = [str(disk.pk) for disk in disks]
            engine().restore(str(uuid), {key: key for key in keys}, term=current_term())
            engine().set_role(keys, "active", reason="", term=current_term())
        note()
    return disks


def delete(uuid: UUID, *, actor: Actor) -> None:
    """Give the state up: its space comes back with the next sweep. Disks that are down stay so."""
    with audit.order("kept.delete", actor=actor, object_type="kept_snapshot", object_name=str(uuid)):
        kept = one(uuid)
        engine().snapshot_delete(str(kept.uuid), term=current_term())
        note()


def note() -> None:
    """Raise or clear the alert that tells of it. The engine keeps such a state only while it is stopped, so at each of
    its starts is often enough; silent, it is asked at its next one.
    """
    try:
        found = all_kept()
    except (StargateError, Unreachable):
        return
    if not found:
        alerts.clear(ALERT)
        return
    down = sum(len(kept.waiting) for kept in found)
    lost = f"log position {found[0].position}" if found[0].position is not None else "the damage"
    disks = "disk is" if down == 1 else "disks are"
    alerts.raise_alert(
        ALERT,
        f"Everything that was written behind {lost} was given up. All disks as they were before it are kept as "
        f"snapshot {found[0].uuid}; {down} {disks} still down.",
    )


def _hold_domains(disks: list[VirtualDisk], held: ExitStack) -> None:
    """No restore, migration or activation runs on their domains meanwhile."""
    domains = {}
    for disk in disks:
        known = membership.of(disk.owner)
        if known is not None:
            domains[known.domain_id] = known.domain
    for domain in domains.values():
        if domain.phase != Phase.ACTIVE:
            raise Conflict(
                "not_active",
                f"{domain.name}, which protects some of these disks, is not active here.",
                "Activate it first, or look at the site where it is active.",
            )
        held.enter_context(phases.only_one_now(domain))


def _read(told: dict[str, Any]) -> Kept:
    members = {UUID(member["disk"]): int(member["size_bytes"]) for member in told["members"]}
    rows = VirtualDisk.objects.select_related("vm", "volume_group", "stored_file").in_bulk(members)
    states = states_of(members)
    position = told["manifest"].get("position")
    return Kept(
        UUID(told["snapshot"]),
        datetime.fromtimestamp(told["created_at"], UTC),
        position if isinstance(position, int) else None,
        [
            KeptDisk(
                key,
                size,
                rows.get(key),
                states[key].role if key in states else "",
                nbd_uri_of(f"snapshot:{told['snapshot']}:{key}"),
            )
            for key, size in members.items()
        ],
    )
