# SPDX-License-Identifier: Apache-2.0
"""The catalog's state as a pure machine: `State.apply(op)`.

Log ops (create ... term) come from CONTROL records in the order of the log; store ops (drained ... sweep) are
committed by the
store alone and numbered `n`. The store's state is what the log says up to `covered`; the front's is the same plus the
undrained
log ops. Ops are idempotent by the ids they carry, so a repeated delivery changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from stargate.catalog import marks
from stargate.errors import DamagedData
from stargate.oplog.format import LogMark
from stargate.units import BLOCK_BYTES

Op = dict[str, Any]

STATE_FORMAT = 2
STATE_FORMATS = (1, 2)
"""Those that this version reads; 1 knew neither boots nor what is unsynced."""
NOTHING_COVERED = LogMark(0, 0, 0)
ROLES = ("active", "readonly", "down")


class BatchRef(NamedTuple):
    """A batch in the hot tier."""

    region: int
    offset: int
    length: int


@dataclass(slots=True)
class VDisk:
    vdisk: str
    handle: int
    size_bytes: int
    chunk_bytes: int
    generation: int
    role: str
    head: str
    export_name: str
    reason: str = ""
    gated: bool = False  # replicated: starts read-only until a peer was asked (stale-site rule)
    write_through: bool = False  # every write is answered when it is durable
    unsynced: bool = False  # may have acknowledged what is not durable yet
    reopen: str = ""  # why it is not served until an operator re-opens it; empty: it is


@dataclass(slots=True)
class Epoch:
    epoch: str
    parent: str | None  # None: zeros below; meaningless once rooted
    size_bytes: int
    chunk_bytes: int
    sealed: bool = False
    root: str | None = None  # hex of the tree root, sealed epochs only
    batches: list[BatchRef] = field(default_factory=list)  # in order of the log; empty once rooted

    @property
    def blocks_per_chunk(self) -> int:
        return self.chunk_bytes // BLOCK_BYTES


@dataclass(slots=True)
class Member:
    disk: str
    epoch: str
    size_bytes: int
    chunk_bytes: int


@dataclass(slots=True)
class Snapshot:
    snapshot: str
    members: list[Member]
    manifest: Op
    created_at: float
    owner: str
    position: int  # log position of the marker; 0 for a received snapshot
    origin: str | None = None  # site id it was received from; None: taken here
    sent: list[str] = field(default_factory=list)  # site ids that hold a complete copy which went out from here


@dataclass(slots=True)
class Peer:
    site_id: str
    name: str
    certificate: str
    address: str = ""  # where it listens; empty: not told yet
    port: int = 0


@dataclass(slots=True)
class Grant:
    session: str
    peer: str
    snapshot: str
    quota_bytes: int
    expires_at: float
    since: int = 0  # sweep epoch when it was given: what was stamped from then on may be its
    used_bytes: int = 0  # of the quota


@dataclass(slots=True)
class State:
    """Everything the catalog knows."""

    log_id: str = ""
    boot_id: str = ""  # of the machine when the front last started; empty: not known
    n: int = 0  # number of the last store op
    covered: LogMark = NOTHING_COVERED
    term: int = 0
    token: int = 0
    sweep: int = 0
    next_handle: int = 1
    vdisks: dict[str, VDisk] = field(default_factory=dict)
    epochs: dict[str, Epoch] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    peers: dict[str, Peer] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)

    def apply(self, op: Op, *, position: int = 0) -> None:
        """Apply one op; `position` is the log position of a log op. Raises DamagedData for an op nobody writes."""
        handler = _HANDLERS.get(op.get("op", ""))
        if handler is None:
            raise DamagedData(f"unknown catalog op {op.get('op')!r}: the data was written by a newer version")
        handler(self, op, position)
        if "n" in op:
            self.n = op["n"]

    def needed_epochs(self) -> set[str]:
        """Epochs that a vDisk or a snapshot reads through; a rooted one needs no parent."""
        needed: set[str] = set()
        starts = [d.head for d in self.vdisks.values()]
        starts += [m.epoch for s in self.snapshots.values() for m in s.members]
        for name in starts:
            at: str | None = name
            while at is not None and at not in needed and at in self.epochs:
                needed.add(at)
                epoch = self.epochs[at]
                at = epoch.parent if epoch.root is None else None
        return needed

    def droppable_epochs(self) -> list[str]:
        return sorted(set(self.epochs) - self.needed_epochs())

    def foldable(self) -> Iterator[Epoch]:
        """Sealed epochs without a root whose parent is rooted (or none), needed by somebody."""
        for name in sorted(self.needed_epochs()):
            epoch = self.epochs[name]
            if not epoch.sealed or epoch.root is not None:
                continue
            parent = self.epochs.get(epoch.parent) if epoch.parent else None
            if epoch.parent is None or (parent is not None and parent.root is not None):
                yield epoch

    def roots(self) -> list[bytes]:
        """Every tree that the catalog names."""
        return [bytes.fromhex(epoch.root) for epoch in self.epochs.values() if epoch.root is not None]

    def snapshot_state(self, snapshot: Snapshot) -> str:
        """`marked` until every member's epoch has its root, then `rooted`."""
        roots = [self.epochs[m.epoch].root for m in snapshot.members]
        return "rooted" if all(r is not None for r in roots) else "marked"

    def by_handle(self) -> dict[int, VDisk]:
        return {d.handle: d for d in self.vdisks.values()}

    def to_dict(self) -> Op:
        return {"format": STATE_FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Op) -> State:
        if data.get("format") not in STATE_FORMATS:
            raise DamagedData(
                f"catalog format {data.get('format')!r} is not {STATE_FORMAT}: start the version that wrote it"
            )
        state = cls(**{k: data[k] for k in ("log_id", "n", "term", "token", "sweep", "next_handle")})
        state.boot_id = data.get("boot_id", "")
        state.covered = LogMark(*data["covered"])
        state.vdisks = {k: VDisk(**v) for k, v in data["vdisks"].items()}
        for key, value in data["epochs"].items():
            state.epochs[key] = Epoch(**{**value, "batches": [BatchRef(*b) for b in value["batches"]]})
        for key, value in data["snapshots"].items():
            state.snapshots[key] = Snapshot(**{**value, "members": [Member(**m) for m in value["members"]]})
        state.peers = {k: Peer(**v) for k, v in data["peers"].items()}
        state.grants = {k: Grant(**v) for k, v in data["grants"].items()}
        return state


def _log_created(state: State, op: Op, position: int) -> None:
    state.log_id = op["log_id"]


def _create(state: State, op: Op, position: int) -> None:
    if op["vdisk"] in state.vdisks:
        return
    state.epochs[op["epoch"]] = Epoch(op["epoch"], op["parent"], op["size_bytes"], op["chunk_bytes"])
    state.vdisks[op["vdisk"]] = VDisk(
        vdisk=op["vdisk"],
        handle=op["handle"],
        size_bytes=op["size_bytes"],
        chunk_bytes=op["chunk_bytes"],
        generation=op["generation"],
        role=op["role"],
        head=op["epoch"],
        export_name=op["export_name"],
        write_through=op.get("write_through", False),
    )
    state.next_handle = max(state.next_handle, op["handle"] + 1)


def _resize(state: State, op: Op, position: int) -> None:
    disk = state.vdisks.get(op["vdisk"])
    if disk is not None:
        disk.size_bytes = op["size_bytes"]
        state.epochs[disk.head].size_bytes = op["size_bytes"]


def _set_root(state: State, op: Op, position: int) -> None:
    disk = state.vdisks.get(op["vdisk"])
    if disk is None or disk.head == op["epoch"]:
        return
    state.epochs[op["epoch"]] = Epoch(op["epoch"], op["parent"], op["size_bytes"], disk.chunk_bytes)
    disk.head = op["epoch"]
    disk.size_bytes = op["size_bytes"]
    disk.generation = op["generation"]
    disk.reopen = ""


def _delete(state: State, op: Op, position: int) -> None:
    state.vdisks.pop(op["vdisk"], None)


def _role(state: State, op: Op, position: int) -> None:
    for name, generation in op["vdisks"].items():
        disk = state.vdisks.get(name)
        if disk is not None:
            disk.role, disk.generation, disk.reason = op["role"], generation, op["reason"]
            disk.reopen = ""


def _gated(state: State, op: Op, position: int) -> None:
    for name in op["vdisks"]:
        if name in state.vdisks:
            state.vdisks[name].gated = op["gated"]


def _seal(state: State, op: Op, position: int) -> None:
    members = []
    for member in op["members"]:
        disk = state.vdisks.get(member["vdisk"])
        if disk is None or disk.head == member["epoch"]:
            continue
        sealed = state.epochs[disk.head]
        sealed.sealed = True
        state.epochs[member["epoch"]] = Epoch(member["epoch"], sealed.epoch, disk.size_bytes, disk.chunk_bytes)
        disk.head = member["epoch"]
        members.append(Member(disk.vdisk, sealed.epoch, sealed.size_bytes, sealed.chunk_bytes))
    if op["snapshot"] is not None and op["snapshot"] not in state.snapshots:
        state.snapshots[op["snapshot"]] = Snapshot(
            op["snapshot"], members, op["manifest"], op["created_at"], op["owner"], position
        )


def _snapshot_delete(state: State, op: Op, position: int) -> None:
    state.snapshots.pop(op["snapshot"], None)


def _term(state: State, op: Op, position: int) -> None:
    state.term = max(state.term, op["term"])


def _drained(state: State, op: Op, position: int) -> None:
    """The one commit of a drain window. The store passes the window's log ops; a front already has them and passes
    none."""
    for log_position, log_op in op.get("log_ops", ()):
        state.apply(log_op, position=log_position)
    for batch in op["batches"]:
        epoch = state.epochs.get(batch["epoch"])
        if epoch is not None and epoch.root is None:
            epoch.batches.append(BatchRef(*batch["ref"]))
    state.covered = LogMark(*op["covered"])


def _rooted(state: State, op: Op, position: int) -> None:
    epoch = state.epochs.get(op["epoch"])
    if epoch is not None:
        epoch.root, epoch.parent, epoch.batches = op["root"], None, []


def _epochs_dropped(state: State, op: Op, position: int) -> None:
    for name in op["epochs"]:
        state.epochs.pop(name, None)


def _received(state: State, op: Op, position: int) -> None:
    if op["snapshot"] in state.snapshots:
        return
    members = []
    for m in op["members"]:
        state.epochs[m["epoch"]] = Epoch(
            m["epoch"], None, m["size_bytes"], m["chunk_bytes"], sealed=True, root=m["root"]
        )
        members.append(Member(m["disk"], m["epoch"], m["size_bytes"], m["chunk_bytes"]))
    state.snapshots[op["snapshot"]] = Snapshot(
        op["snapshot"], members, op["manifest"], op["created_at"], op["owner"], 0, op["origin"]
    )


def _sent(state: State, op: Op, position: int) -> None:
    snapshot = state.snapshots.get(op["snapshot"])
    if snapshot is not None and op["site_id"] not in snapshot.sent:
        snapshot.sent.append(op["site_id"])


def _peer(state: State, op: Op, position: int) -> None:
    address, port = op.get("address", ""), op.get("port", 0)
    state.peers[op["site_id"]] = Peer(op["site_id"], op["name"], op["certificate"], address, port)


def _peer_removed(state: State, op: Op, position: int) -> None:
    state.peers.pop(op["site_id"], None)
    for session in [g.session for g in state.grants.values() if g.peer == op["site_id"]]:
        del state.grants[session]


def _grant(state: State, op: Op, position: int) -> None:
    """Given again it is prolonged: what it protects and what it has used stay."""
    old = state.grants.get(op["session"])
    since, used = (op.get("since", 0), 0) if old is None else (old.since, old.used_bytes)
    state.grants[op["session"]] = Grant(
        op["session"], op["peer"], op["snapshot"], op["quota_bytes"], op["expires_at"], since, used
    )


def _grant_used(state: State, op: Op, position: int) -> None:
    grant = state.grants.get(op["session"])
    if grant is not None:
        grant.used_bytes = max(grant.used_bytes, op["used_bytes"])


def _grant_end(state: State, op: Op, position: int) -> None:
    state.grants.pop(op["session"], None)


def _token(state: State, op: Op, position: int) -> None:
    state.token = op["token"]


def _sweep(state: State, op: Op, position: int) -> None:
    state.sweep = op["sweep"]


LOG_OPS = marks.OPS | frozenset(
    {"log_created", "create", "resize", "set_root", "delete", "role", "gated", "seal", "snapshot_delete", "term"}
)

_HANDLERS = {
    **marks.HANDLERS,
    "log_created": _log_created,
    "create": _create,
    "resize": _resize,
    "set_root": _set_root,
    "delete": _delete,
    "role": _role,
    "gated": _gated,
    "seal": _seal,
    "snapshot_delete": _snapshot_delete,
    "term": _term,
    "drained": _drained,
    "rooted": _rooted,
    "epochs_dropped": _epochs_dropped,
    "received": _received,
    "sent": _sent,
    "peer": _peer,
    "peer_removed": _peer_removed,
    "grant": _grant,
    "grant_used": _grant_used,
    "grant_end": _grant_end,
    "token": _token,
    "sweep": _sweep,
}
