# SPDX-License-Identifier: Apache-2.0
"""The life of a replication: one pure table (no Django), the only place that knows which step is legal.

A RUNNING replication has an owner and a heartbeat. When the heartbeat is older than `WORKER_SILENT_SECONDS` the
leader fires WORKER_LOST: the row is PENDING again and any worker may resume it, because every phase can be repeated.
"""

from __future__ import annotations

from enum import StrEnum

WORKER_SILENT_SECONDS = 60
"""Age of a heartbeat after which the owner of a running replication counts as lost."""


class ReplicationState(StrEnum):
    """Stored as is."""

    PENDING = "PENDING"  # waits for its turn, its start time or its next attempt
    RUNNING = "RUNNING"  # a worker owns it
    PAUSED = "PAUSED"  # an operator stopped it; what was sent stays with the receiver
    SUCCEEDED = "SUCCEEDED"  # the remote site confirmed the complete snapshot
    FAILED = "FAILED"  # the remote site refused it, or the bytes cannot be read here
    ABORTED = "ABORTED"  # an operator gave it up
    EXPIRED = "EXPIRED"  # its retention passed before it was sent
    SKIPPED = "SKIPPED"  # a newer snapshot of the domain went first


class ReplicationEvent(StrEnum):
    """What can happen to a replication."""

    START = "START"
    SUCCEED = "SUCCEED"
    FAIL = "FAIL"
    RETRY = "RETRY"
    WORKER_LOST = "WORKER_LOST"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    ABORT = "ABORT"
    EXPIRE = "EXPIRE"
    SKIP = "SKIP"


class IllegalTransition(Exception):
    """The event cannot happen in this state; nothing changed."""

    def __init__(self, state: ReplicationState, event: ReplicationEvent) -> None:
        super().__init__(f"{event} is not possible while {state}")
        self.state = state
        self.event = event


S = ReplicationState
E = ReplicationEvent

TRANSITIONS: dict[tuple[ReplicationState, ReplicationEvent], ReplicationState] = {
    (S.PENDING, E.START): S.RUNNING,
    (S.PENDING, E.PAUSE): S.PAUSED,
    (S.PENDING, E.ABORT): S.ABORTED,
    (S.PENDING, E.EXPIRE): S.EXPIRED,
    (S.PENDING, E.SKIP): S.SKIPPED,
    (S.RUNNING, E.SUCCEED): S.SUCCEEDED,
    (S.RUNNING, E.FAIL): S.FAILED,
    (S.RUNNING, E.RETRY): S.PENDING,  # the link is down: later, from where it stopped
    (S.RUNNING, E.WORKER_LOST): S.PENDING,  # nobody knows how far it came: the receiver says what it has
    (S.RUNNING, E.PAUSE): S.PAUSED,
    (S.RUNNING, E.ABORT): S.ABORTED,
    (S.RUNNING, E.EXPIRE): S.EXPIRED,  # incoming only: the grant ran out before the snapshot was complete
    (S.PAUSED, E.RESUME): S.PENDING,
    (S.PAUSED, E.ABORT): S.ABORTED,
    (S.PAUSED, E.EXPIRE): S.EXPIRED,
}

FINAL = frozenset({S.SUCCEEDED, S.FAILED, S.ABORTED, S.EXPIRED, S.SKIPPED})
GIVEN_UP = FINAL - {S.SUCCEEDED}
OUTSTANDING = frozenset(S) - FINAL
OWNED = frozenset({S.RUNNING})
"""States with an owner whose silence has a meaning."""


def next_state(state: ReplicationState, event: ReplicationEvent) -> ReplicationState:
    """The state after `event`; raises `IllegalTransition`."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None


def sources(event: ReplicationEvent) -> frozenset[ReplicationState]:
    """The states in which `event` can happen: the WHERE of its conditional UPDATE."""
    return frozenset(state for state, candidate in TRANSITIONS if candidate is event)


# Checked on import, so that a half-edited table cannot ship.
if not all((state, E.WORKER_LOST) in TRANSITIONS for state in OWNED) or any(state in FINAL for state, _ in TRANSITIONS):
    raise RuntimeError("replication table: an owned state without WORKER_LOST, or a way out of a final state")


def mermaid() -> str:
    """The table as a diagram, for `docs/replication.md`."""
    steps = [f"    {state} --> {after}: {event}" for (state, event), after in TRANSITIONS.items()]
    ends = [f"    {state} --> [*]" for state in ReplicationState if state in FINAL]
    return "\n".join(["stateDiagram-v2", "    [*] --> PENDING", *steps, *ends])
