# SPDX-License-Identifier: Apache-2.0
"""Which snapshots go: the pure plan.

The expiry of a snapshot is fixed when it is made. Time alone does not remove it: the newest of a domain, the promised
minimum and what a replication still needs stay available past their expiry, until newer ones have taken their place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

EXPIRED_SHOWN_FOR = timedelta(hours=1)
"""An expired snapshot is listed ("Include Expired") for this long after its expiry before its space is given back."""


class Action(StrEnum):
    KEEP = "keep"
    EXPIRE = "expire"  # from now on refused for restore, still listed
    REMOVE = "remove"  # give the space back


@dataclass(frozen=True)
class Fact:
    """What the plan needs to know of one snapshot. `expires_at` None = never."""

    uuid: UUID
    created_at: datetime
    expires_at: datetime | None
    expired: bool = False  # marked so by an earlier plan
    hidden_base: bool = False


@dataclass(frozen=True)
class Guards:
    """What keeps snapshots of one domain beyond their expiry."""

    min_snapshots_to_retain: int = 1
    bases: frozenset[UUID] = frozenset()  # newest common snapshot with each remote site
    in_use: frozenset[UUID] = frozenset()  # being replicated or restored


@dataclass(frozen=True)
class Decision:
    """`reason` is a sentence for the operator."""

    uuid: UUID
    action: Action
    reason: str


def plan_expiry(snapshots: Iterable[Fact], now: datetime, guards: Guards) -> list[Decision]:
    """One decision per snapshot of one domain, newest first. Pure; the newest visible one is never removed."""
    ordered = sorted(snapshots, key=lambda fact: (fact.created_at, fact.uuid), reverse=True)
    alive = [fact for fact in ordered if not fact.expired and not fact.hidden_base]
    kept = {fact.uuid for fact in alive[: max(1, guards.min_snapshots_to_retain)]}
    return [_decide(fact, now, guards, promised=fact.uuid in kept) for fact in ordered]


def _decide(fact: Fact, now: datetime, guards: Guards, *, promised: bool) -> Decision:
    if fact.uuid in guards.in_use:
        return Decision(fact.uuid, Action.KEEP, "It is being replicated or restored.")
    if fact.uuid in guards.bases:
        return Decision(fact.uuid, Action.KEEP, "The next replication builds on it.")
    if fact.expires_at is None and not fact.hidden_base:
        return Decision(fact.uuid, Action.KEEP, "It has no expiration.")
    if fact.expires_at is not None and fact.expires_at > now:
        return Decision(fact.uuid, Action.KEEP, "Its time has not come.")
    if promised:
        return Decision(fact.uuid, Action.KEEP, "It is among the newest, which stay until newer ones are made.")
    if fact.hidden_base:
        return Decision(fact.uuid, Action.REMOVE, "No replication builds on it any more.")
    if fact.expired and fact.expires_at is not None and fact.expires_at + EXPIRED_SHOWN_FOR <= now:
        return Decision(fact.uuid, Action.REMOVE, "It expired.")
    return Decision(fact.uuid, Action.EXPIRE, "It expired.")
