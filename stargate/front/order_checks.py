# SPDX-License-Identifier: Apache-2.0
"""What an order may name and ask for (the checks raise InvalidArgument), and what its answer shows."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any

from stargate.catalog.state import ROLES, Snapshot, State
from stargate.errors import InvalidArgument
from stargate.units import BLOCK_BYTES, VDISK_BYTES_MAX, blocks_of


def check_uuid(value: str, what: str) -> None:
    try:
        uuid.UUID(value)
    except (ValueError, AttributeError, TypeError) as exc:
        raise InvalidArgument(f"a {what} id is a uuid, not {value!r}") from exc


def check_new(vdisk: str, export_name: str, role: str) -> None:
    check_uuid(vdisk, "vDisk")
    if role not in ROLES:
        raise InvalidArgument(f"role is one of {', '.join(ROLES)}, not {role!r}")
    if not 0 < len(export_name.encode()) <= 255 or "\0" in export_name or export_name.startswith("snapshot:"):
        raise InvalidArgument("an export name has 1 to 255 bytes and does not begin with 'snapshot:'")


def check_targets(targets: Collection[str]) -> None:
    """Raises InvalidArgument when a restore would set one disk to two contents."""
    if len(set(targets)) != len(targets):
        raise InvalidArgument("two disks of the snapshot are to be restored to one vDisk; name it once")


def check_size(size_bytes: int) -> None:
    if not 0 < size_bytes <= VDISK_BYTES_MAX:
        raise InvalidArgument(
            f"a disk has 1 byte to {VDISK_BYTES_MAX} bytes ({blocks_of(VDISK_BYTES_MAX)} blocks of {BLOCK_BYTES})"
        )


def shown(state: State, snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as an answer tells of it."""
    epochs = state.epochs
    return {
        "snapshot": snapshot.snapshot,
        "state": state.snapshot_state(snapshot),
        "position": snapshot.position,
        "created_at": snapshot.created_at,
        "owner": snapshot.owner,
        "origin": snapshot.origin,
        "manifest": snapshot.manifest,
        "members": [
            {"disk": m.disk, "size_bytes": m.size_bytes, "chunk_bytes": m.chunk_bytes, "root": epochs[m.epoch].root}
            for m in snapshot.members
        ],
    }
