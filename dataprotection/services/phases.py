# SPDX-License-Identifier: Apache-2.0
"""Steps of a domain through its state table: a conditional UPDATE and an appended row, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from dataprotection.models import DomainTransition, ProtectionDomain
from dataprotection.states import MODE, Event, NoSuchTransition, Phase, next_phase
from prism.core.actor import Actor
from prism.core.exceptions import Conflict, IllegalTransition

_WORDS = {
    Event.MIGRATE: "be migrated",
    Event.ACTIVATE: "be activated",
    Event.DEACTIVATE: "be deactivated",
    Event.RECEIVE: "take over from another site",
    Event.FORCE_ACTIVE: "be forced active",
}
_WHY = {
    Phase.ACTIVE: ("it is active here already", "Nothing, or deactivate it first."),
    Phase.INACTIVE: ("it is inactive here", "Give the order on the active site, or activate it here first."),
    Phase.MIGRATING_OUT: ("it is being migrated to another site", "Wait for that task."),
    Phase.MIGRATING_IN: ("it is arriving from another site", "Wait for that task."),
    Phase.ACTIVATING: ("it is being activated", "Wait for that task."),
    Phase.DEACTIVATING: ("it is being deactivated", "Wait for that task."),
    Phase.NEEDS_OPERATOR: (
        "a migration was ordered at the remote site, which has not answered",
        "Bring the remote site back; if it is lost for good, activate here with force.",
    ),
}

GENERATION_LEAP_MAX = 1024
"""Activations that two sites may have missed of each other. Each raises the generation by one, a forced one by two."""


def fire(domain: ProtectionDomain, event: Event, *, actor: Actor, reason: str = "", **changes: Any) -> Phase:
    """Make the step, with `changes` to other columns in the same UPDATE. Raises IllegalTransition (409).

    Two callers that fire from the same phase: the database lets one through, the other is told what it finds now.
    """
    before = Phase(domain.phase)
    try:
        after = next_phase(before, event)
    except NoSuchTransition:
        raise refusal(domain, event) from None
    with transaction.atomic():
        mine = ProtectionDomain.objects.filter(pk=domain.pk, phase=before)
        changed = mine.update(phase=after, mode=MODE[after], **changes)
        if changed:
            DomainTransition.objects.create(
                domain=domain, event=event, from_phase=before, to_phase=after, reason=reason, actor=actor.label
            )
    domain.refresh_from_db()
    if not changed:
        raise refusal(domain, event)
    return after


def next_generation(domain: ProtectionDomain, *others: int) -> int:
    """The generation of an activation that is ordered now: above all that any site is known to have had."""
    return max(domain.mode_generation, domain.generation_seen, *others) + 1


def believable(domain: ProtectionDomain, generation: object) -> bool:
    """Whether another site may really have come to this `generation`, which is as hostile as all that it says."""
    known = max(domain.mode_generation, domain.generation_seen)
    return type(generation) is int and 0 <= generation <= known + GENERATION_LEAP_MAX


def refusal(domain: ProtectionDomain, event: Event) -> IllegalTransition:
    """The 409 for an event that the domain's present phase does not allow."""
    why, next_step = _WHY[Phase(domain.phase)]
    words = _WORDS.get(event, f"take the step {event}")
    return IllegalTransition(domain.phase, event, f"{domain.name} cannot {words}: {why}.", next_step)


@contextmanager
def only_one(domain_uuid: UUID) -> Iterator[None]:
    """Serialise the work of tasks and peers on one domain; released when the holder's connection ends.

    A second caller waits: answering "busy" to a peer would be taken for a refusal.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_key(domain_uuid)])
    try:
        yield
    finally:
        _unlock(domain_uuid)


@contextmanager
def only_one_now(domain: ProtectionDomain) -> Iterator[None]:
    """`only_one` for an order that somebody waits for: Conflict instead of waiting."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_key(domain.uuid)])
        if not cursor.fetchone()[0]:
            raise Conflict(
                "domain_busy", f"Another order is at work on {domain.name}.", "Wait for its task, then try again."
            )
    try:
        yield
    finally:
        _unlock(domain.uuid)


def _key(domain_uuid: UUID) -> int:
    return domain_uuid.int & 0x7FFF_FFFF_FFFF_FFFF


def _unlock(domain_uuid: UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock(%s)", [_key(domain_uuid)])
