# SPDX-License-Identifier: Apache-2.0
"""Protection domains."""

from __future__ import annotations

from dataprotection.models import OneTimeSnapshot, ProtectionDomain, Snapshot
from dataprotection.services import gating, naming
from dataprotection.states import STABLE, Phase
from prism.core.actor import Actor
from prism.core.exceptions import Conflict, InvalidInput
from prism.core.services import alerts, audit, events

TYPE = "protection_domain"
MIN_SNAPSHOTS_MAX = 1000


def create(*, name: str, actor: Actor) -> ProtectionDomain:
    """An active, empty domain. It exists from here on, whatever happens to the rest of a wizard."""
    with audit.order("domain.create", actor=actor, object_type=TYPE, object_name=name):
        naming.domain_name(name)
        naming.must_be_new(ProtectionDomain, "name", name, "protection domain")
        domain = ProtectionDomain.objects.create(name=name)
        happened(domain, "protection_domain_created", f"The protection domain {name} was created.")
    return domain


def update(
    domain: ProtectionDomain,
    *,
    min_snapshots_to_retain: int | None = None,
    schedules_suspended: bool | None = None,
    actor: Actor,
) -> ProtectionDomain:
    """Change what is given; holds from the next snapshot on. The name is for life: peers know it."""
    with audit.order("domain.update", actor=actor, object_type=TYPE, object_name=domain.name):
        if min_snapshots_to_retain is not None:
            if not 1 <= min_snapshots_to_retain <= MIN_SNAPSHOTS_MAX:
                raise InvalidInput(
                    "min_snapshots_to_retain", f"Between 1 and {MIN_SNAPSHOTS_MAX} snapshots can be kept."
                )
            domain.min_snapshots_to_retain = min_snapshots_to_retain
        if schedules_suspended is not None:
            domain.schedules_suspended = schedules_suspended
        domain.save(update_fields=["min_snapshots_to_retain", "schedules_suspended"])
    return domain


def delete(domain: ProtectionDomain, *, actor: Actor) -> ProtectionDomain:
    """Mark the domain for removal. Its entities become unprotected now, and stay; the row goes with the next clean-up.

    Refused while it has schedules or snapshots, or changes its mode: those are deleted first, on purpose.
    """
    with audit.order("domain.delete", actor=actor, object_type=TYPE, object_name=domain.name):
        _refuse_busy(domain)
        snapshots = Snapshot.objects.filter(domain=domain, hidden_base=False).count()
        schedules = domain.schedules.count()
        if schedules or snapshots:
            raise Conflict(
                "domain_in_use",
                f"{domain.name} still has {schedules} schedules and {snapshots} snapshots.",
                "Delete its schedules and its snapshots first.",
            )
        gating.forget(domain)
        OneTimeSnapshot.objects.filter(domain=domain).delete()
        domain.entities.all().delete()
        domain.groups.all().delete()
        ProtectionDomain.objects.filter(pk=domain.pk).update(marked_for_removal=True, whole_container=None)
        domain.refresh_from_db()
        alerts.forget(TYPE, domain.pk)
        happened(domain, "protection_domain_deleted", f"The protection domain {domain.name} was deleted.")
    return domain


def clean_up(*, actor: Actor) -> int:
    """Remove marked domains that nothing holds any more. Returns how many went."""
    gone = 0
    for domain in ProtectionDomain.objects.filter(marked_for_removal=True):
        if not Snapshot.objects.filter(domain=domain).exists():
            domain.delete()
            gone += 1
    return gone


def refuse_unusable(domain: ProtectionDomain) -> None:
    """Entities and schedules are changed on the active site only, and not while the mode changes."""
    domain.refresh_from_db()
    _refuse_busy(domain)
    if domain.phase != Phase.ACTIVE:
        raise Conflict(
            "domain_inactive",
            f"{domain.name} is inactive on this site.",
            "Give the order on the active site, or activate it here first.",
        )


def happened(domain: ProtectionDomain, kind: str, message: str) -> None:
    """An event of the domain's Events tab."""
    events.add(kind, message, object_type=TYPE, object_name=domain.name, object_id=domain.uuid)


def _refuse_busy(domain: ProtectionDomain) -> None:
    if domain.marked_for_removal:
        raise Conflict("domain_deleted", f"{domain.name} is being deleted.", "Nothing; it disappears by itself.")
    if domain.phase not in STABLE or domain.phase == Phase.NEEDS_OPERATOR:
        raise Conflict(
            "domain_busy",
            f"{domain.name} is changing its mode ({domain.phase}).",
            "Wait until that task has finished.",
        )
