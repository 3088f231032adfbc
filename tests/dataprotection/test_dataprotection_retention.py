# SPDX-License-Identifier: Apache-2.0
"""The retention plan."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dataprotection.services.retention_plan import Action, Fact, Guards, plan_expiry

NOW = datetime(2026, 5, 4, 15, 38, tzinfo=UTC)
HOUR = timedelta(hours=1)


def fact(age_hours: int, kept_hours: int | None, **more: bool) -> Fact:
    created = NOW - HOUR * age_hours
    return Fact(uuid.uuid4(), created, created + HOUR * kept_hours if kept_hours is not None else None, **more)


def actions(facts: list[Fact], guards: Guards | None = None) -> list[Action]:
    """In the order of `facts`."""
    found = {decision.uuid: decision.action for decision in plan_expiry(facts, NOW, guards or Guards())}
    return [found[one.uuid] for one in facts]


def test_it_expires_what_is_over_and_keeps_the_rest() -> None:
    facts = [fact(1, 6), fact(5, 6), fact(7, 6)]
    assert actions(facts) == [Action.KEEP, Action.KEEP, Action.EXPIRE]


def test_it_keeps_an_expired_one_listed_for_a_while_then_removes_it() -> None:
    facts = [fact(1, 6), fact(6, 6, expired=True), fact(8, 6, expired=True)]
    assert actions(facts) == [Action.KEEP, Action.EXPIRE, Action.REMOVE]


def test_it_never_removes_the_newest_because_time_passed() -> None:
    assert actions([fact(1000, 1)]) == [Action.KEEP]


def test_it_keeps_the_promised_minimum() -> None:
    facts = [fact(100, 1), fact(101, 1), fact(102, 1), fact(103, 1)]
    assert actions(facts, Guards(min_snapshots_to_retain=3)) == [Action.KEEP] * 3 + [Action.EXPIRE]


def test_it_keeps_the_base_of_the_next_replication_and_what_is_in_use() -> None:
    facts = [fact(1, 6), fact(100, 1), fact(101, 1)]
    guards = Guards(bases=frozenset({facts[1].uuid}), in_use=frozenset({facts[2].uuid}))
    assert actions(facts, guards) == [Action.KEEP] * 3


def test_it_drops_a_hidden_base_that_nobody_needs() -> None:
    facts = [fact(1, 6), fact(30, 24, hidden_base=True)]
    assert actions(facts) == [Action.KEEP, Action.REMOVE]
    assert actions(facts, Guards(bases=frozenset({facts[1].uuid}))) == [Action.KEEP, Action.KEEP]


def test_it_does_not_count_a_hidden_base_as_the_newest() -> None:
    facts = [fact(1, 24, hidden_base=True), fact(100, 1)]
    assert actions(facts) == [Action.KEEP, Action.KEEP]


def test_it_keeps_what_never_expires() -> None:
    assert actions([fact(1, None), fact(10_000, None)]) == [Action.KEEP, Action.KEEP]


@given(
    ages=st.lists(st.tuples(st.integers(0, 500), st.one_of(st.none(), st.integers(0, 50)), st.booleans()), min_size=1),
    minimum=st.integers(0, 5),
)
def test_it_leaves_something_to_restore(ages: list[tuple[int, int | None, bool]], minimum: int) -> None:
    facts = [fact(age, kept, hidden_base=hidden) for age, kept, hidden in ages]
    decisions = plan_expiry(facts, NOW, Guards(min_snapshots_to_retain=minimum))
    assert len(decisions) == len(facts)
    visible = [one for one in facts if not one.hidden_base]
    kept = {decision.uuid for decision in decisions if decision.action is Action.KEEP}
    newest = sorted(visible, key=lambda one: (one.created_at, one.uuid), reverse=True)[: max(1, minimum)]
    assert {one.uuid for one in newest} <= kept
    assert not any(one.uuid not in kept and one.expires_at and one.expires_at > NOW for one in facts)
