# SPDX-License-Identifier: Apache-2.0
"""The log ops about what a crash may take of acknowledged writes (design note 0007). None touches an epoch or head."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stargate.catalog.state import State, VDisk

Op = dict[str, Any]


def _named(state: State, op: Op) -> list[VDisk]:
    return [state.vdisks[name] for name in op["vdisks"] if name in state.vdisks]


def _unsynced(state: State, op: Op, position: int) -> None:
    for disk in _named(state, op):
        disk.unsynced = True


def _synced(state: State, op: Op, position: int) -> None:
    for disk in _named(state, op):
        disk.unsynced = False


def _boot(state: State, op: Op, position: int) -> None:
    """The machine started anew: what was unsynced is lost or not, from now on there is nothing unsynced."""
    state.boot_id = op["boot_id"]
    for disk in state.vdisks.values():
        disk.unsynced = False
        if disk.vdisk in op["suspects"]:
            disk.reopen = op["reason"]


def _reopen(state: State, op: Op, position: int) -> None:
    for disk in _named(state, op):
        disk.reopen = ""


def _write_through(state: State, op: Op, position: int) -> None:
    """What was acknowledged before is durable with this record."""
    for disk in _named(state, op):
        disk.write_through = op["write_through"]
        disk.unsynced = False


HANDLERS: dict[str, Callable[[State, Op, int], None]] = {
    "unsynced": _unsynced,
    "synced": _synced,
    "boot": _boot,
    "reopen": _reopen,
    "write_through": _write_through,
}

OPS = frozenset(HANDLERS)
