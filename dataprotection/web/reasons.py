# SPDX-License-Identifier: Apache-2.0
"""Why an order is not possible now, in words; "" when it is. The services decide again when the order is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dataprotection.choices import StaleState
from dataprotection.models import ProtectionDomain
from dataprotection.states import Event, Phase, events_of
from replication.choices import Capability
from replication.models import RemoteSite


@dataclass(frozen=True)
class Reasons:
    """One field per action link of the table."""

    take_snapshot: str
    migrate: str
    update: str
    activate: str
    deactivate: str
    delete: str


def migrate_targets(sites: Sequence[RemoteSite]) -> list[RemoteSite]:
    """Sites that may activate a domain."""
    return [site for site in sites if site.is_paired and site.capability == Capability.DISASTER_RECOVERY]


def reasons_of(domain: ProtectionDomain, *, entities: int, restore_points: int, sites: Sequence[RemoteSite]) -> Reasons:
    """All reasons of one domain."""
    busy = _busy(domain)
    active = busy or _not_active(domain)
    stale = _stale(domain)
    empty = "" if entities else "It has no entities yet. Use Update to protect some."
    no_site = "" if migrate_targets(sites) else "There is no paired remote site with the capability Disaster Recovery."
    no_point = (
        "" if restore_points else "No snapshot has arrived completely here, so there is nothing to activate from."
    )
    return Reasons(
        take_snapshot=active or stale or empty,
        migrate=active or stale or empty or no_site,
        update=active,
        activate=busy or ("It is active here already." if domain.active else "") or no_point,
        deactivate=active,
        delete=busy,
    )


def _busy(domain: ProtectionDomain) -> str:
    if domain.marked_for_removal:
        return "It is being deleted."
    phase = Phase(domain.phase)
    if phase is Phase.NEEDS_OPERATOR:
        return (
            "A migration's outcome is unknown: the disks stay fenced here until the other site answers. See the alert."
        )
    if Event.MIGRATE not in events_of(phase) and Event.ACTIVATE not in events_of(phase):
        return f"It is {domain.get_phase_display().lower()} now. See Tasks for the progress."
    return ""


def _not_active(domain: ProtectionDomain) -> str:
    return "" if domain.active else "It is inactive here: the active site takes the snapshots."


def _stale(domain: ProtectionDomain) -> str:
    if domain.stale_state != StaleState.ACTIVE_ELSEWHERE:
        return ""
    return f"It is active on {domain.peer_active_site or 'another site'} too. Deactivate it on one of them first."
