# SPDX-License-Identifier: Apache-2.0
"""The two halves of a change of sides: bringing a domain up from a snapshot, and taking it down here."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from dataprotection.choices import StaleState
from dataprotection.models import ProtectionDomain, Schedule, ScheduleRemote
from dataprotection.services import domains, gating, grid, membership, phases, recover
from dataprotection.services.manifest import Manifest
from dataprotection.services.schedules import ScheduleSpec, check_form
from dataprotection.states import Event
from prism.core.actor import Actor
from prism.core.engine import engine
from prism.core.exceptions import InvalidInput
from prism.core.services import alerts
from prism.core.services.sites import this_site
from replication.models import RemoteSite


def bring_up(
    domain: ProtectionDomain,
    found: Manifest,
    *,
    event: Event,
    mode_generation: int,
    schedules: Sequence[dict[str, Any]],
    term: int | None,
    actor: Actor,
) -> None:
    """Serve the domain here from the snapshot of `found`. The caller made the step into ACTIVATING or MIGRATING_IN.

    Disks are put back with their exports down; one transaction makes the rows and the domain ACTIVE; only then do the
    exports come up. A run that died anywhere is repeated from the start and changes nothing twice. VMs stay off.
    """
    names = recover.put_back_disks(found, found.entities, term=term)
    with transaction.atomic():
        entities = recover.put_back_rows(found, found.entities, names)
        for entity, entry in zip(entities, found.entities, strict=True):
            if membership.of(entity) is None:
                group, _ = domain.groups.get_or_create(
                    name=entry.group, defaults={"app_consistent": entry.app_consistent}
                )
                membership.join(domain, group, entity)
        _put_back_schedules(domain, schedules, found)
        phases.fire(
            domain,
            event,
            actor=actor,
            reason=f"from snapshot {found.composite_id}",
            mode_generation=mode_generation,
            stale_state=StaleState.NONE,
            peer_active_site="",
        )
    serve(domain, term=term)
    domains.happened(domain, "protection_domain_activated", f"{domain.name} was activated on this site.")
    alerts.raise_alert(
        "activation",
        f"{domain.name} is active on this site from snapshot {found.composite_id}.",
        object_type=domains.TYPE,
        object_name=domain.name,
        object_id=domain.uuid,
    )


def serve(domain: ProtectionDomain, *, term: int | None) -> None:
    """Exports of an active domain come up, and will wait for the peers' word after a restart."""
    keys = gating.disk_ids(domain)
    if keys:
        engine().set_role(keys, "active", reason="", term=term)
        gating.refresh(domain)
        engine().set_gate(keys, "open")


def take_down(domain: ProtectionDomain, event: Event, *, actor: Actor, reason: str, generation: int = 0) -> None:
    """The domain is inactive here from now on: its entities and schedules leave the inventory, fenced vDisks stay.

    `generation`: that of the site which is active now, 0 when none was told.
    """
    seen = {"generation_seen": max(generation, domain.generation_seen)}
    with transaction.atomic():
        phases.fire(domain, event, actor=actor, reason=reason, stale_state=StaleState.NONE, peer_active_site="", **seen)
        targets = [row.target for row in domain.entities.select_related("vm", "volume_group", "stored_file")]
        domain.entities.all().delete()
        domain.groups.all().delete()
        domain.schedules.all().delete()
        recover.remove_local([target for target in targets if target is not None])
    alerts.clear("active_on_multiple_sites", object_type=domains.TYPE, object_name=domain.name, object_id=domain.uuid)
    domains.happened(domain, "protection_domain_deactivated", f"{domain.name} is inactive on this site: {reason}.")


def _put_back_schedules(domain: ProtectionDomain, entries: Sequence[dict[str, Any]], found: Manifest) -> None:
    """Schedules travel with the domain; a target that is this site now becomes the site it came from."""
    for entry in entries:
        try:
            key, spec = uuid.UUID(str(entry["uuid"])), _spec(entry)
            check_form(spec)
        except (KeyError, TypeError, ValueError, InvalidInput) as error:
            domains.happened(
                domain, "schedule_dropped", f"A schedule of {domain.name} could not be taken over: {error}."
            )
            continue
        names = ("type", "every_nth", "end_at", "timezone", "app_consistent", "local_keep", "local_ticked", "start_at")
        row, _ = Schedule.objects.update_or_create(
            pk=key,
            defaults={
                "domain": domain,
                "suspended": entry.get("suspended") is True,
                **{name: getattr(spec, name) for name in names},
            },
        )
        Schedule.objects.filter(pk=key).update(next_due_at=grid.next_due(row, timezone.now()))
        _put_back_remotes(row, entry, found)


def _put_back_remotes(schedule: Schedule, entry: dict[str, Any], found: Manifest) -> None:
    here = this_site().uuid
    schedule.remotes.all().delete()
    for remote in list(entry.get("remotes", []))[:100]:
        wanted = uuid.UUID(str(remote["site_uuid"]))
        site = RemoteSite.objects.filter(site_uuid=found.site_uuid if wanted == here else wanted).first()
        if site is not None:
            keep = min(max(1, int(remote["keep"])), 10_000)
            ScheduleRemote.objects.get_or_create(schedule=schedule, site=site, defaults={"keep": keep})


def _spec(entry: dict[str, Any]) -> ScheduleSpec:
    start_at = parse_datetime(str(entry["start_at"]))
    if start_at is None:
        raise ValueError("a schedule without start")
    return ScheduleSpec(
        type=str(entry["type"]),
        every_nth=int(entry["every_nth"]),
        start_at=start_at,
        end_at=parse_datetime(str(entry["end_at"])) if entry.get("end_at") else None,
        timezone=str(entry["timezone"]),
        app_consistent=entry["app_consistent"] is True,
        local_keep=int(entry["local_keep"]),
        local_ticked=True if not entry.get("remotes") else entry["local_ticked"] is True,
    )
