# SPDX-License-Identifier: Apache-2.0
"""What the pruner will have kept by some later day, given schedules that go on as they are or as a form has them.

The plan of a day depends on nothing that the plans before it did: a snapshot goes only while enough newer ones stand,
and newer ones never become fewer than that. So one plan over all snapshots until then says what a plan each minute
would have left; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

from dataprotection.services.grid import Grid, interval, next_due
from dataprotection.services.retention_plan import Action, Fact, Guards, plan_expiry

RUNS_MAX = 3_000
"""Of one schedule; beyond them a forecast says nothing."""

_NOT_RANDOM = 0xF << 124
"""Snapshots that are still to come have names that no snapshot has: their version is not 4."""


@dataclass(frozen=True)
class Keeping:
    """A schedule and how many of its snapshots this place keeps. `from_at`: its next run, None = it has ended."""

    grid: Grid
    keep: int
    from_at: datetime | None


@dataclass(frozen=True)
class Outlook:
    """One later day. `points` restore points, the oldest and newest of them; `gone`: how many of today's are not there.

    `oldest` and `newest` None: there will be no restore point.
    """

    at: datetime
    points: int
    gone: int
    oldest: datetime | None
    newest: datetime | None


def runs(keeping: Keeping, until: datetime) -> list[datetime]:
    """When it takes snapshots up to `until`, at most `RUNS_MAX` + 1."""

    def due() -> Iterable[datetime]:
        at = keeping.from_at
        while at is not None and at <= until:
            yield at
            at = next_due(keeping.grid, at)

    return list(islice(due(), RUNS_MAX + 1))


def _planned(keepings: Iterable[Keeping], until: datetime) -> list[Fact] | None:
    """The snapshots of the time until then; None: too many to tell."""
    facts: list[Fact] = []
    for number, keeping in enumerate(keepings):
        times = runs(keeping, until)
        if len(times) > RUNS_MAX:
            return None
        kept_for = interval(keeping.grid) * keeping.keep
        facts += [
            Fact(UUID(int=_NOT_RANDOM + (number << 64) + index), at, at + kept_for) for index, at in enumerate(times)
        ]  # fmt: skip
    return facts


def forecast(
    today: Sequence[Fact], keepings: Sequence[Keeping], guards: Guards, now: datetime, days: Iterable[int]
) -> list[Outlook]:
    """One outlook per day from now, as far as it can be told."""
    promise = Guards(min_snapshots_to_retain=guards.min_snapshots_to_retain)
    visible = {fact.uuid for fact in today if not fact.hidden_base and not fact.expired}
    found = []
    for count in days:
        at = now + timedelta(days=count)
        planned = _planned(keepings, at)
        if planned is None:
            break
        facts = [*(fact for fact in today if fact.uuid in visible), *planned]
        times = {fact.uuid: fact.created_at for fact in facts}
        decisions = plan_expiry(facts, at, promise if count else guards)
        kept = [decision.uuid for decision in decisions if decision.action is Action.KEEP]
        moments = [times[key] for key in kept]
        found.append(
            Outlook(
                at, len(kept), len(visible - set(kept)), min(moments, default=None), max(moments, default=None)
            )
        )  # fmt: skip
    return found
