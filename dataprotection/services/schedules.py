# SPDX-License-Identifier: Apache-2.0
"""Schedules: when a domain is snapshotted, and how many are kept where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.utils import timezone

from dataprotection.choices import ScheduleType
from dataprotection.models import ProtectionDomain, Schedule, ScheduleRemote
from dataprotection.services import domains, gating, grid, targets
from prism.core.actor import Actor
from prism.core.exceptions import InvalidInput
from prism.core.services import audit
from replication.models import RemoteSite

KEEP_MAX = 10_000
NTH_MAX = {ScheduleType.MINUTELY: 44_640, ScheduleType.HOURLY: 8_784, ScheduleType.DAILY: 366}
ASYNC_MINUTES_MIN = 60
NEARSYNC_MINUTES_MAX = 15


@dataclass(frozen=True)
class ScheduleSpec:
    """The form. `start_at` None = now. `remotes`: remote site's primary key -> snapshots that it keeps.

    `local_ticked` False: the local snapshot is kept only as the base of the next replication.
    """

    type: str
    every_nth: int
    start_at: datetime | None = None
    end_at: datetime | None = None
    timezone: str = "UTC"
    app_consistent: bool = False
    local_keep: int = 1
    local_ticked: bool = True
    remotes: Mapping[int, int] = field(default_factory=dict)


def add(domain: ProtectionDomain, spec: ScheduleSpec, *, actor: Actor) -> Schedule:
    """A new schedule. Its first snapshot is due at once, or at `start_at` when that lies ahead; then on its grid."""
    with audit.order("schedule.add", actor=actor, object_type=domains.TYPE, object_name=domain.name) as detail:
        domains.refuse_unusable(domain)
        sites = _checked(domain, spec)
        now = timezone.now()
        start_at = spec.start_at or now
        schedule = Schedule.objects.create(
            domain=domain, start_at=start_at, next_due_at=max(start_at, now), **_columns(spec)
        )
        _store_remotes(schedule, spec, sites)
        detail["schedule"] = str(schedule)
        gating.refresh(domain)
        domains.happened(domain, "schedule_added", f"A schedule was added to {domain.name}: {schedule}.")
    return schedule


def change(schedule: Schedule, spec: ScheduleSpec, *, actor: Actor) -> Schedule:
    """Replace a schedule; holds from its next snapshot on. Snapshots that exist keep their expiry."""
    domain = schedule.domain
    with audit.order("schedule.change", actor=actor, object_type=domains.TYPE, object_name=domain.name) as detail:
        domains.refuse_unusable(domain)
        sites = _checked(domain, spec)
        for name, value in _columns(spec).items():
            setattr(schedule, name, value)
        schedule.start_at = spec.start_at or schedule.start_at
        schedule.next_due_at = grid.next_due(schedule, timezone.now())
        schedule.save()
        schedule.remotes.all().delete()
        _store_remotes(schedule, spec, sites)
        detail["schedule"] = str(schedule)
        gating.refresh(domain)
        domains.happened(domain, "schedule_changed", f"A schedule of {domain.name} was changed: {schedule}.")
    return schedule


def remove(schedule: Schedule, *, actor: Actor) -> None:
    """No more snapshots from it; those it made stay until they expire."""
    domain = schedule.domain
    with audit.order("schedule.remove", actor=actor, object_type=domains.TYPE, object_name=domain.name) as detail:
        detail["schedule"] = str(schedule)
        text = str(schedule)
        schedule.delete()
        domains.happened(domain, "schedule_removed", f"A schedule of {domain.name} was removed: {text}.")


def suspend(schedule: Schedule, *, suspended: bool, actor: Actor) -> Schedule:
    """Stop a schedule for a while, or let it go on from its next grid point."""
    with audit.order(
        "schedule.suspend", actor=actor, object_type=domains.TYPE, object_name=schedule.domain.name
    ) as detail:
        detail["suspended"] = suspended
        schedule.suspended = suspended
        schedule.next_due_at = grid.next_due(schedule, timezone.now())
        schedule.save(update_fields=["suspended", "next_due_at"])
    return schedule


def _checked(domain: ProtectionDomain, spec: ScheduleSpec) -> list[RemoteSite]:
    """All checks; returns the remote sites."""
    check_form(spec)
    if not spec.local_ticked and not spec.remotes:
        raise InvalidInput("local_ticked", "The snapshots would be kept nowhere.", "Tick Local or a remote site.")
    return targets.checked(domain, list(spec.remotes))


def check_form(spec: ScheduleSpec) -> None:
    """The checks that need nothing but the form; raises InvalidInput."""
    _check_interval(spec)
    _check_times(spec)
    for name, keep in [("local_keep", spec.local_keep), *(("remotes", keep) for keep in spec.remotes.values())]:
        if not 1 <= keep <= KEEP_MAX:
            raise InvalidInput(name, f"Between 1 and {KEEP_MAX} snapshots can be kept.")


def _check_interval(spec: ScheduleSpec) -> None:
    if spec.type not in NTH_MAX:
        raise InvalidInput("type", f"There is no schedule type {spec.type!r}.", "Use MINUTELY, HOURLY or DAILY.")
    if not 1 <= spec.every_nth <= NTH_MAX[ScheduleType(spec.type)]:
        raise InvalidInput("every_nth", f"The interval must lie between 1 and {NTH_MAX[ScheduleType(spec.type)]}.")
    if spec.type != ScheduleType.MINUTELY or spec.every_nth >= ASYNC_MINUTES_MIN:
        return
    if spec.every_nth <= NEARSYNC_MINUTES_MAX:
        raise InvalidInput(
            "every_nth",
            "Snapshots every 1 to 15 minutes need NearSync; they are refused until NearSync exists.",
            f"Choose {ASYNC_MINUTES_MIN} minutes or more.",
            code="needs_nearsync",
        )
    raise InvalidInput(
        "every_nth",
        "Intervals of 16 to 59 minutes are not possible: NearSync takes 15 minutes or less, asynchronous 60 or more.",
        f"Choose {ASYNC_MINUTES_MIN} minutes or more.",
    )


def _check_times(spec: ScheduleSpec) -> None:
    try:
        ZoneInfo(spec.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput(
            "timezone", f"There is no time zone {spec.timezone!r}.", "Use a name such as Europe/Berlin."
        ) from error
    for name, moment in (("start_at", spec.start_at), ("end_at", spec.end_at)):
        if moment is not None and timezone.is_naive(moment):
            raise InvalidInput(name, "The time needs a time zone.", "Write it like 2026-05-04T15:38:00+02:00.")
    if spec.end_at is not None and spec.end_at <= (spec.start_at or timezone.now()):
        raise InvalidInput("end_at", "The schedule would end before it starts.", "Choose a later end or no end.")


def _columns(spec: ScheduleSpec) -> dict[str, object]:
    names = ("type", "every_nth", "end_at", "timezone", "app_consistent", "local_keep", "local_ticked")
    return {name: getattr(spec, name) for name in names}


def _store_remotes(schedule: Schedule, spec: ScheduleSpec, sites: list[RemoteSite]) -> None:
    ScheduleRemote.objects.bulk_create(
        ScheduleRemote(schedule=schedule, site=site, keep=spec.remotes[site.pk]) for site in sites
    )
