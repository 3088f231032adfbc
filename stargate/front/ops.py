# SPDX-License-Identifier: Apache-2.0
"""Builders of log ops, and their form in the log."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable

from stargate.catalog.document import document
from stargate.catalog.state import Op, State, VDisk
from stargate.errors import InvalidArgument
from stargate.oplog.format import CONTROL, CONTROL_BYTES_MAX, Append


def control_record(op: Op) -> Append:
    """Raises InvalidArgument for what the catalog could not keep: the drain would stumble over it for ever."""
    data = document(op)
    if len(data) > CONTROL_BYTES_MAX:
        raise InvalidArgument(
            f"an order takes {len(data)} bytes in the log, more than {CONTROL_BYTES_MAX}; shorten the manifest"
        )
    return Append(CONTROL, 0, 0, data, len(data))


def op_of(payload: bytes) -> Op:
    op: Op = json.loads(payload)
    return op


def new_id() -> str:
    return str(uuid.uuid4())


def create(
    state: State,
    vdisk: str,
    size_bytes: int,
    chunk_bytes: int,
    *,
    export_name: str,
    role: str,
    parent: str | None,
) -> Op:
    return {
        "op": "create",
        "vdisk": vdisk,
        "handle": state.next_handle,
        "size_bytes": size_bytes,
        "chunk_bytes": chunk_bytes,
        "generation": 1,
        "role": role,
        "epoch": new_id(),
        "parent": parent,
        "export_name": export_name,
    }


def seal(
    disks: Iterable[VDisk],
    *,
    snapshot: str | None,
    manifest: Op | None = None,
    created_at: float = 0.0,
    owner: str = "",
) -> Op:
    """One marker over all `disks`; `snapshot` None is an internal seal that only bounds the hot tier."""
    return {
        "op": "seal",
        "snapshot": snapshot,
        "members": [{"vdisk": d.vdisk, "epoch": new_id()} for d in disks],
        "manifest": manifest or {},
        "created_at": created_at,
        "owner": owner,
    }


def role(disks: Iterable[VDisk], role_name: str, reason: str) -> Op:
    """Every change of role raises the generation: connections of the old one are dead."""
    return {"op": "role", "role": role_name, "reason": reason, "vdisks": {d.vdisk: d.generation + 1 for d in disks}}


def set_root(disk: VDisk, *, parent: str, size_bytes: int) -> Op:
    return {
        "op": "set_root",
        "vdisk": disk.vdisk,
        "epoch": new_id(),
        "parent": parent,
        "size_bytes": size_bytes,
        "generation": disk.generation + 1,
    }
