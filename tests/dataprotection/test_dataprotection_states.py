# SPDX-License-Identifier: Apache-2.0
"""The life of a domain: every pair of the table."""

from __future__ import annotations

import itertools

import pytest

from dataprotection.states import MODE, STABLE, TRANSITIONS, Event, NoSuchTransition, Phase, events_of, next_phase

P, E = Phase, Event


def test_it_walks_the_documented_migration() -> None:
    here = [P.ACTIVE]
    for event in (E.MIGRATE, E.PEER_ACTIVE):
        here.append(next_phase(here[-1], event))
    there = [P.INACTIVE]
    for event in (E.RECEIVE, E.RECEIVED):
        there.append(next_phase(there[-1], event))
    assert here == [P.ACTIVE, P.MIGRATING_OUT, P.INACTIVE]
    assert there == [P.INACTIVE, P.MIGRATING_IN, P.ACTIVE]


def test_it_stays_down_when_the_peer_does_not_answer() -> None:
    assert next_phase(P.MIGRATING_OUT, E.PEER_SILENT) is P.NEEDS_OPERATOR
    assert events_of(P.NEEDS_OPERATOR) == {E.PEER_ACTIVE, E.PEER_REFUSED, E.FORCE_ACTIVE}


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, Event)))
def test_it_knows_every_pair(phase: Phase, event: Event) -> None:
    if (phase, event) in TRANSITIONS:
        assert next_phase(phase, event) in Phase
        assert event in events_of(phase)
    else:
        with pytest.raises(NoSuchTransition):
            next_phase(phase, event)
        assert event not in events_of(phase)


def test_it_gives_every_phase_a_mode_and_a_way_out() -> None:
    assert set(MODE) == set(Phase)
    for phase in Phase:
        assert any(TRANSITIONS[phase, event] is not phase for event in events_of(phase))


def test_it_has_a_lost_worker_row_for_every_phase_with_an_owner() -> None:
    assert {phase for phase in Phase if E.WORKER_LOST in events_of(phase)} == set(Phase) - STABLE
