# SPDX-License-Identifier: Apache-2.0
"""The table of a replication's life."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from replication.states import (
    FINAL,
    OUTSTANDING,
    TRANSITIONS,
    IllegalTransition,
    ReplicationEvent,
    ReplicationState,
    mermaid,
    next_state,
    sources,
)

S, E = ReplicationState, ReplicationEvent
PAIRS = list(itertools.product(S, E))


def test_it_walks_the_life_with_a_broken_link_and_a_pause() -> None:
    state = S.PENDING
    for event, expected in [
        (E.START, S.RUNNING),
        (E.RETRY, S.PENDING),
        (E.START, S.RUNNING),
        (E.PAUSE, S.PAUSED),
        (E.RESUME, S.PENDING),
        (E.START, S.RUNNING),
        (E.WORKER_LOST, S.PENDING),
        (E.START, S.RUNNING),
        (E.SUCCEED, S.SUCCEEDED),
    ]:
        state = next_state(state, event)
        assert state is expected


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair not in TRANSITIONS])
def test_it_refuses_every_pair_outside_the_table(state: ReplicationState, event: ReplicationEvent) -> None:
    with pytest.raises(IllegalTransition) as refused:
        next_state(state, event)
    assert (refused.value.state, refused.value.event) == (state, event)


@pytest.mark.parametrize("pair", TRANSITIONS)
def test_it_agrees_with_its_sources(pair: tuple[ReplicationState, ReplicationEvent]) -> None:
    assert pair[0] in sources(pair[1])


def test_it_ends_in_every_final_state_and_leaves_none() -> None:
    assert set(TRANSITIONS.values()) >= FINAL
    assert {state for state, _ in TRANSITIONS} == OUTSTANDING


def test_it_lets_an_operator_abort_whatever_is_outstanding() -> None:
    assert sources(E.ABORT) == OUTSTANDING


def test_it_is_drawn_in_the_docs() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "replication.md"
    assert mermaid() in page.read_text(encoding="utf-8")
