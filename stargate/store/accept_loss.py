# SPDX-License-Identifier: Apache-2.0
"""`accept-loss`: give up what a damaged log lost and start a new one (design note 0007). Offline, an operator's order.

Steps, each of which may be cut off and ordered again: what stands before the damage is drained; a new log is made
beside the old one; one catalog frame moves the catalog to it, with every disk down or where it was chosen to be (the
commit point); the damaged log moves aside, the new one takes its place.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from stargate.catalog.state import Op, State, VDisk
from stargate.clock import Clock
from stargate.errors import InvalidArgument, LogDamaged, NotFound
from stargate.front import ops
from stargate.front.recovery import NEXT_LOG, load_state
from stargate.fs.disk import Disk
from stargate.oplog.damage import DamagedLog, damage_of
from stargate.oplog.format import CONTROL, LogMark, first_mark
from stargate.oplog.log import OpLog
from stargate.oplog.skim import Run
from stargate.oplog.superblock import load_superblock
from stargate.store.hub import CatalogHub
from stargate.store.worker import Worker

DOWN = "down"
BEFORE_DAMAGE = "before-damage"
NEWEST = "newest-snapshot"
CHOICES = (DOWN, BEFORE_DAMAGE, NEWEST)

OWNER = "accept-loss"
REASON = "a part of the log was lost: what this disk held last is unknown; restore it, or bring it up as it was before"


class Fate(NamedTuple):
    """What becomes of a disk: its role afterwards, and the snapshot it goes back to (None: as before the damage)."""

    vdisk: str
    export_name: str
    role: str
    snapshot: str | None


@dataclass(slots=True)
class Plan:
    """`position`: where the log breaks off; every change behind it is lost. `safety`: the snapshot of all disks as they
    were there, None without disks.
    """

    position: int
    reason: str
    fates: list[Fate] = field(default_factory=list)
    safety: str | None = None


def plan(disk: Disk, choice: str, chosen: Mapping[str, str]) -> Plan:
    """What `carry_out` would do; changes nothing. `chosen`: vDisk -> a choice or a snapshot, before `choice`.

    Raises InvalidArgument for a whole log or an unknown choice, NotFound for an unknown disk or snapshot, Unavailable
    while the front runs.
    """
    state = load_state(disk)
    oplog = _open(disk, state)
    try:
        _follow(state, oplog)
        return _plan(state, oplog, choice, chosen)
    finally:
        oplog.close()


def carry_out(
    disk: Disk, hub: CatalogHub, worker: Worker, clock: Clock, choice: str, chosen: Mapping[str, str]
) -> Plan | None:
    """Do it; None when an order that was cut off behind its commit point was finished. Raises as `plan`, NoSpace."""
    if _is_committed(disk, hub.state):
        _take_place(disk, hub.state.log_id)
        return None
    oplog = _open(disk, hub.state)
    try:
        if not _is_drained(hub.state, oplog):
            worker.drain_now(oplog.appended.position)
        what = _plan(hub.state, oplog, choice, chosen)
        if not _is_drained(hub.state, oplog):
            raise LogDamaged("what stands before the damage cannot be drained; look at the log of this order")
        new = _make_next(disk, oplog)
        hub.commit(_commit(hub.state, what, new, clock.now()))
    finally:
        oplog.close()
    _take_place(disk, hub.state.log_id)
    return what


# -- what is there ----------------------------------------------------------------------------------------------------


def _open(disk: Disk, state: State) -> DamagedLog:
    covered = LogMark(*state.covered) if state.covered.position else None
    damage = damage_of(disk, "oplog", covered)
    if damage is None:
        raise InvalidArgument("the log is whole: there is no loss to accept, start the engine")
    log_id = bytes.fromhex(state.log_id) if state.log_id else bytes(16)
    return DamagedLog.open_damaged(disk, "oplog", log_id=log_id, covered=covered, damage=damage)


def _is_drained(state: State, oplog: DamagedLog) -> bool:
    """Whether the catalog has all that stands before the damage; of a log that lost its beginning nothing does."""
    covered = state.covered.position or first_mark(oplog.info.log_id).position
    return oplog.appended.position <= covered


def _follow(state: State, oplog: DamagedLog) -> None:
    """Apply the undrained log ops."""
    for batch in oplog.replayed():
        if not isinstance(batch, Run):
            for record in batch.records:
                if record.type == CONTROL:
                    state.apply(ops.op_of(record.payload or b"{}"), position=batch.end)


def _plan(state: State, oplog: DamagedLog, choice: str, chosen: Mapping[str, str]) -> Plan:
    for vdisk in chosen:
        if vdisk not in state.vdisks:
            raise NotFound(f"no such vDisk: {vdisk}")
    fates = [_fate(state, d, chosen.get(d.vdisk, choice)) for d in state.vdisks.values()]
    safety = str(uuid.uuid4()) if fates else None
    return Plan(oplog.appended.position, oplog.damage.message, fates, safety)


def _fate(state: State, disk: VDisk, choice: str) -> Fate:
    if choice == DOWN or disk.role == DOWN:
        return Fate(disk.vdisk, disk.export_name, DOWN, None)
    if choice == BEFORE_DAMAGE:
        return Fate(disk.vdisk, disk.export_name, disk.role, None)
    holding = [
        s
        for s in state.snapshots.values()
        if any((m.disk, m.chunk_bytes) == (disk.vdisk, disk.chunk_bytes) for m in s.members)
    ]
    if choice == NEWEST:
        if not holding:
            return Fate(disk.vdisk, disk.export_name, DOWN, None)
        newest = max(holding, key=lambda s: s.created_at)
        return Fate(disk.vdisk, disk.export_name, disk.role, newest.snapshot)
    if choice not in {s.snapshot for s in holding}:
        raise NotFound(f"{choice!r} is neither one of {', '.join(CHOICES)} nor a snapshot of disk {disk.vdisk}")
    return Fate(disk.vdisk, disk.export_name, disk.role, choice)


# -- the commit -------------------------------------------------------------------------------------------------------


def _commit(state: State, what: Plan, new: OpLog, now: float) -> Op:
    """One `drained` op: an empty window of the new log that carries the ops. Nothing of it is in any log."""
    mark = first_mark(new.log_id)
    log_ops: list[Op] = [{"op": "log_created", "log_id": new.log_id.hex()}]
    disks = list(state.vdisks.values())
    if disks:
        manifest = {"reason": "state before a damaged part of the log", "position": what.position}
        log_ops.append(ops.seal(disks, snapshot=what.safety, manifest=manifest, created_at=now, owner=OWNER))
    for fate in what.fates:
        disk = state.vdisks[fate.vdisk]
        generation = disk.generation + 1
        if fate.snapshot is not None:
            member = next(m for m in state.snapshots[fate.snapshot].members if m.disk == fate.vdisk)
            log_ops.append(ops.set_root(disk, parent=member.epoch, size_bytes=member.size_bytes))
            generation += 1
        reason = REASON if fate.role == DOWN else ""
        log_ops.append({"op": "role", "role": fate.role, "reason": reason, "vdisks": {fate.vdisk: generation}})
    return {
        "op": "drained",
        "covered": list(mark),
        "log_ops": [[mark.position, op] for op in log_ops],
        "batches": [],
    }


def _make_next(disk: Disk, oplog: DamagedLog) -> OpLog:
    """A fresh log beside the damaged one, of the same sizes; closed."""
    disk.mkdir(NEXT_LOG)
    for name in disk.list(NEXT_LOG):  # of an order that was cut off before its commit
        disk.unlink(f"{NEXT_LOG}/{name}")
    info = oplog.info
    new = OpLog.create(
        disk, NEXT_LOG, log_id=uuid.uuid4().bytes, segment_bytes=info.segment_bytes, cap_bytes=info.cap_bytes
    )
    new.close()
    return new


# -- the files --------------------------------------------------------------------------------------------------------


def _is_committed(disk: Disk, state: State) -> bool:
    if not disk.exists(f"{NEXT_LOG}/superblock"):
        return False
    try:
        return load_superblock(disk, NEXT_LOG)[0].log_id.hex() == state.log_id
    except LogDamaged:
        return False  # its making was cut off


def _take_place(disk: Disk, log_id: str) -> None:
    """The superblock's first file moves last, after its second: as long as it stands in `NEXT_LOG` the front refuses to
    start and this can be done again. Once the new slot is in place, all of the old log is away.
    """
    aside = f"oplog-damaged-{log_id[:8]}"
    disk.mkdir(aside)
    disk.mkdir("oplog")
    slot = f"{NEXT_LOG}/slot-0000"
    if disk.exists(slot):
        for name in disk.list("oplog"):
            disk.rename(f"oplog/{name}", f"{aside}/{name}")
        disk.sync_dir(aside)
        disk.sync_dir("oplog")
        _move(disk, slot)
    if disk.exists(f"{NEXT_LOG}/superblock-2"):  # moved already, or of an older engine
        _move(disk, f"{NEXT_LOG}/superblock-2")
    _move(disk, f"{NEXT_LOG}/superblock")


def _move(disk: Disk, path: str) -> None:
    disk.rename(path, f"oplog/{os.path.basename(path)}")
    disk.sync_dir("oplog")
    disk.sync_dir(NEXT_LOG)
