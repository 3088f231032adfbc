# SPDX-License-Identifier: Apache-2.0
"""What the engine knows of disks beside their rows: role, write-through, whether they wait to be re-opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from prism.core.engine import engine

AT_ONCE = 256
"""Disks of one question: the engine answers it between two reads of its guests."""


@dataclass(frozen=True)
class DiskState:
    """`role` is active, readonly or down; `reason` says why it is not served, "" = it is. `reopen`: its machine died
    while it was writing, and somebody who knows that its guest is off must open it again.
    """

    role: str
    reason: str
    reopen: bool
    write_through: bool
    connections: tuple[dict[str, Any], ...]


def states_of(disks: Iterable[UUID]) -> dict[UUID, DiskState]:
    """Of those that the engine has. Raises StargateError, Unreachable."""
    keys = iter({str(key): None for key in disks})
    found: dict[UUID, DiskState] = {}
    while part := list(islice(keys, AT_ONCE)):
        for told in engine().vdisks(part):
            found[UUID(told["vdisk"])] = DiskState(
                role=str(told["role"]),
                reason=str(told["reason"] or ""),
                reopen=bool(told["reopen"]),
                write_through=bool(told["write_through"]),
                connections=tuple(told["connections"]),
            )
    return found
