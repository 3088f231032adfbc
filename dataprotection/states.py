# SPDX-License-Identifier: Apache-2.0
"""The life of a protection domain on this site: one table, pure Python.

MIGRATING_OUT, ACTIVATING, MIGRATING_IN and DEACTIVATING have a task as owner; when its worker is lost the same phase is
entered again by another worker, for every step of those tasks is idempotent. NEEDS_OPERATOR: the peer was told to take
over and its answer is unknown; disks stay fenced here, and the leader goes on asking.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    MIGRATING_OUT = "MIGRATING_OUT"
    MIGRATING_IN = "MIGRATING_IN"
    ACTIVATING = "ACTIVATING"
    DEACTIVATING = "DEACTIVATING"
    NEEDS_OPERATOR = "NEEDS_OPERATOR"


class Event(StrEnum):
    MIGRATE = "MIGRATE"
    MIGRATE_FAILED = "MIGRATE_FAILED"  # before the peer was told: nothing happened there
    PEER_SILENT = "PEER_SILENT"  # told, no answer
    PEER_REFUSED = "PEER_REFUSED"  # told, and it said no
    PEER_ACTIVE = "PEER_ACTIVE"  # told, and it serves
    RECEIVE = "RECEIVE"
    RECEIVED = "RECEIVED"
    RECEIVE_FAILED = "RECEIVE_FAILED"
    ACTIVATE = "ACTIVATE"
    ACTIVATED = "ACTIVATED"
    ACTIVATE_FAILED = "ACTIVATE_FAILED"
    DEACTIVATE = "DEACTIVATE"
    DEACTIVATED = "DEACTIVATED"
    DEACTIVATE_FAILED = "DEACTIVATE_FAILED"
    FORCE_ACTIVE = "FORCE_ACTIVE"  # the operator vouches that the peer will not serve
    WORKER_LOST = "WORKER_LOST"


P, E = Phase, Event

TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (P.ACTIVE, E.MIGRATE): P.MIGRATING_OUT,
    (P.MIGRATING_OUT, E.MIGRATE_FAILED): P.ACTIVE,
    (P.MIGRATING_OUT, E.PEER_ACTIVE): P.INACTIVE,
    (P.MIGRATING_OUT, E.PEER_REFUSED): P.ACTIVE,
    (P.MIGRATING_OUT, E.PEER_SILENT): P.NEEDS_OPERATOR,
    (P.MIGRATING_OUT, E.WORKER_LOST): P.MIGRATING_OUT,
    (P.NEEDS_OPERATOR, E.PEER_ACTIVE): P.INACTIVE,
    (P.NEEDS_OPERATOR, E.PEER_REFUSED): P.ACTIVE,
    (P.NEEDS_OPERATOR, E.FORCE_ACTIVE): P.ACTIVE,
    (P.INACTIVE, E.RECEIVE): P.MIGRATING_IN,
    (P.MIGRATING_IN, E.RECEIVED): P.ACTIVE,
    (P.MIGRATING_IN, E.RECEIVE_FAILED): P.INACTIVE,
    (P.MIGRATING_IN, E.WORKER_LOST): P.MIGRATING_IN,
    (P.INACTIVE, E.ACTIVATE): P.ACTIVATING,
    (P.ACTIVATING, E.ACTIVATED): P.ACTIVE,
    (P.ACTIVATING, E.ACTIVATE_FAILED): P.INACTIVE,
    (P.ACTIVATING, E.WORKER_LOST): P.ACTIVATING,
    (P.ACTIVE, E.DEACTIVATE): P.DEACTIVATING,
    (P.DEACTIVATING, E.DEACTIVATED): P.INACTIVE,
    (P.DEACTIVATING, E.DEACTIVATE_FAILED): P.ACTIVE,
    (P.DEACTIVATING, E.WORKER_LOST): P.DEACTIVATING,
}

STABLE = frozenset({P.ACTIVE, P.INACTIVE, P.NEEDS_OPERATOR})

MODE: dict[Phase, str] = {
    P.ACTIVE: "active",
    P.MIGRATING_OUT: "active",
    P.DEACTIVATING: "active",
    P.NEEDS_OPERATOR: "active",
    P.INACTIVE: "inactive",
    P.MIGRATING_IN: "inactive",
    P.ACTIVATING: "inactive",
}
"""The mode that the pages and the peers are told for a phase."""


class NoSuchTransition(ValueError):
    """The table has no step for this event in this phase; nothing changed."""

    def __init__(self, phase: Phase, event: Event) -> None:
        super().__init__(f"{event} is not possible in phase {phase}")
        self.phase = phase
        self.event = event


def next_phase(phase: Phase, event: Event) -> Phase:
    """The phase after `event`; raises NoSuchTransition."""
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise NoSuchTransition(phase, event) from None


def events_of(phase: Phase) -> frozenset[Event]:
    """What may happen in `phase`: the pages ask this for their buttons."""
    return frozenset(event for (state, event) in TRANSITIONS if state is phase)


if not all((phase, E.WORKER_LOST) in TRANSITIONS for phase in set(Phase) - STABLE):
    raise RuntimeError("states.py: a phase with an owner has no WORKER_LOST row")
