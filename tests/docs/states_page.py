# SPDX-License-Identifier: Apache-2.0
"""docs/states.md, made from the state tables. `PRISM_WRITE_DOCS=1 pytest tests/docs` writes it anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

from dataprotection import states as domain
from replication import states as replication

PAGE = Path(__file__).parents[2] / "docs" / "states.md"

_HEAD = """# State machines

Made from the tables in the code by `tests/docs/states_page.py`; do not edit. A step is a conditional UPDATE
and an appended row. What is not drawn is refused with 409 and changes nothing.
"""
_DOMAIN = """## A protection domain on this site

Table: `dataprotection/states.py`. A task owns the phases {owned}; when its worker is lost (WORKER_LOST) another
one enters the same phase again, for every step can be repeated. Shown as active: {active}.
"""
_REPLICATION = """## A replication

Table: `replication/states.py`. A RUNNING one has an owner; after {silent} s without heartbeat it counts as lost.
The rules around it: [replication.md](replication.md).
"""


def render() -> str:
    """The whole page."""
    phases = [phase for phase in domain.Phase if phase not in domain.STABLE]
    active = [phase for phase in domain.Phase if domain.MODE[phase] == "active"]
    return "\n".join(
        [
            _HEAD,
            _DOMAIN.format(owned=_listed(phases), active=_listed(active)),
            diagram(domain.TRANSITIONS, starts=[domain.Phase.ACTIVE, domain.Phase.INACTIVE]),
            _REPLICATION.format(silent=replication.WORKER_SILENT_SECONDS),
            diagram(
                replication.TRANSITIONS,
                starts=[replication.ReplicationState.PENDING],
                ends=[state for state in replication.ReplicationState if state in replication.FINAL],
            ),
        ]
    )


def diagram(
    transitions: Mapping[tuple[StrEnum, StrEnum], StrEnum], *, starts: Iterable[StrEnum], ends: Iterable[StrEnum] = ()
) -> str:
    """One Mermaid block."""
    lines = [f"    [*] --> {state}" for state in starts]
    lines += [f"    {before} --> {after}: {event}" for (before, event), after in transitions.items()]
    lines += [f"    {state} --> [*]" for state in ends]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])


def _listed(states: Iterable[StrEnum]) -> str:
    return ", ".join(states)
