# SPDX-License-Identifier: Apache-2.0
"""The front's orders (see docs/design/0002, Control API).

Each order is a function run in the NBD loop's thread between two batches, so it sees no half-staged write; it returns
its result and
the log position that must be durable before the caller hears of it. The waiting happens in the control connection's
own thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from stargate.catalog.state import ROLES, Member, Op, Snapshot, VDisk
from stargate.control.server import Orders
from stargate.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    StaleTerm,
    Unavailable,
    WriterConnected,
)
from stargate.front import ops
from stargate.front.engine import FrontEngine
from stargate.front.exports import FrontExports
from stargate.front.order_checks import check_new, check_size, check_targets, check_uuid, shown
from stargate.nbd.server import NbdServer
from stargate.space import Level
from stargate.units import CHUNK_BYTES

DURABLE_TIMEOUT_SECONDS = 30.0
MEMBERS_MAX = 4096

Json = dict[str, Any]
Result = tuple[Json, int]
T = TypeVar("T")


class FrontOrders(Orders):
    """`do_<order>` methods called by the control server, one thread per connection."""

    def __init__(
        self, engine: FrontEngine, exports: FrontExports, server: NbdServer, facts: Callable[[], Json]
    ) -> None:
        self._engine = engine
        self._exports = exports
        self._server = server
        self._facts = facts  # what the process knows beside the engine: store link, damage, versions

    # -- plumbing -----------------------------------------------------------------------------------------------------

    def _in_loop(self, order: Callable[[], tuple[T, int]]) -> T:
        """Run `order` in the loop, then wait until its position is durable. Raises what it raised, LogFrozen,
        Unavailable."""
        done: Future[tuple[T, int]] = Future()

        def run() -> None:
            try:
                done.set_result(order())
            except BaseException as exc:
                done.set_exception(exc)

        self._server.call_soon(run)
        result, position = done.result(DURABLE_TIMEOUT_SECONDS)
        if position and not self._engine.sync.wait_durable(position, DURABLE_TIMEOUT_SECONDS):
            raise Unavailable("the order is in the log but its fsync takes too long; ask again")
        return result

    def _check_term(self, term: int | None) -> None:
        if term is not None and term < self._engine.state.term:
            raise StaleTerm(
                f"order of term {term} refused: a Cerebro leader of term {self._engine.state.term} has taken over"
            )

    def _disk(self, vdisk: str) -> VDisk:
        disk = self._engine.state.vdisks.get(vdisk)
        if disk is None:
            raise NotFound(f"no such vDisk: {vdisk}")
        return disk

    def _disks(self, vdisks: Sequence[str]) -> list[VDisk]:
        if not vdisks or len(vdisks) > MEMBERS_MAX:
            raise InvalidArgument(f"name 1 to {MEMBERS_MAX} vDisks, not {len(vdisks)}")
        return [self._disk(v) for v in dict.fromkeys(vdisks)]

    def _append(self, *records: Op) -> int:
        return self._engine.append_ops(records)

    # -- status and terms ---------------------------------------------------------------------------------------------

    def do_status(self) -> Json:
        engine = self._engine
        return {
            "log_id": engine.state.log_id,
            "term": engine.state.term,
            "log_used_bytes": engine.log.used_bytes,
            "log_cap_bytes": engine.log.cap_bytes,
            "appended": engine.log.appended.position,
            "durable": engine.log.durable.position,
            "covered": engine.state.covered.position,
            "frozen": engine.sync.error is not None,
            "damaged": engine.damage.shown() if engine.damage is not None else None,
            "vdisks": len(engine.state.vdisks),
            "snapshots": len(engine.state.snapshots),
            **self._facts(),
        }

    def do_claim_term(self, term: int) -> Json:
        def order() -> Result:
            self._check_term(term)
            if self._engine.damage is not None:  # of all orders this one is needed to go on sending snapshots
                self._engine.state.term = term
            if term == self._engine.state.term:
                return {"term": term}, self._engine.log.appended.position
            return {"term": term}, self._append({"op": "term", "term": term})

        return self._in_loop(order)

    # -- vDisks -------------------------------------------------------------------------------------------------------

    def do_vdisks(self, only: list[str] | None = None) -> list[Json]:
        def order() -> tuple[list[Json], int]:
            known = self._engine.state.vdisks
            wanted = known if only is None else [name for name in only if name in known]
            return [self._describe(known[name]) for name in wanted], 0

        return self._in_loop(order)

    def do_vdisk(self, vdisk: str) -> Json:
        return self._in_loop(lambda: (self._describe(self._disk(vdisk)), 0))

    def do_connections(self, vdisk: str) -> list[Json]:
        return self._in_loop(lambda: (self._exports.connections(self._disk(vdisk).vdisk), 0))

    def _describe(self, disk: VDisk) -> Json:
        gate, reason = self._exports.gate_of(disk)
        damage = self._engine.damage
        return {
            "vdisk": disk.vdisk,
            "size_bytes": disk.size_bytes,
            "generation": disk.generation,
            "role": disk.role,
            "reason": (damage.brief if damage else "") or disk.reopen or disk.reason or reason,
            "reopen": bool(disk.reopen),
            "write_through": disk.write_through,
            "gate": gate,
            "gated": disk.gated,
            "export_name": disk.export_name,
            "connections": self._exports.connections(disk.vdisk),
        }

    def do_vdisk_create(
        self,
        vdisk: str,
        size_bytes: int,
        export_name: str,
        role: str,
        source: Json | None,
        term: int | None,
        write_through: bool = False,
    ) -> Json:
        return self._in_loop(lambda: self._create(vdisk, size_bytes, export_name, role, source, term, write_through))

    def _create(
        self,
        vdisk: str,
        size_bytes: int,
        export_name: str,
        role: str,
        source: Json | None,
        term: int | None,
        write_through: bool,
    ) -> Result:
        self._check_term(term)
        existing = self._engine.state.vdisks.get(vdisk)
        if existing is not None:
            if existing.export_name != export_name:
                raise AlreadyExists(f"vDisk {vdisk} exists under the name {existing.export_name}")
            return self._describe(existing), self._engine.log.appended.position
        check_new(vdisk, export_name, role)
        if any(d.export_name == export_name for d in self._engine.state.vdisks.values()):
            raise AlreadyExists(f"another disk is exported as {export_name!r}; choose another name")
        parent, chunk_bytes = None, CHUNK_BYTES
        if source is not None:
            member = self._member(str(source.get("snapshot")), str(source.get("disk")))
            parent, chunk_bytes = member.epoch, member.chunk_bytes
            size_bytes = size_bytes or member.size_bytes
            if size_bytes < member.size_bytes:
                raise InvalidArgument("a clone cannot be smaller than the snapshot's disk")
        check_size(size_bytes)
        op = ops.create(
            self._engine.state, vdisk, size_bytes, chunk_bytes, export_name=export_name, role=role, parent=parent
        )
        position = self._append({**op, "write_through": write_through})
        return self._describe(self._disk(vdisk)), position

    def do_vdisk_resize(self, vdisk: str, size_bytes: int, term: int | None) -> Json:
        def order() -> Result:
            self._check_term(term)
            disk = self._disk(vdisk)
            check_size(size_bytes)
            if size_bytes < disk.size_bytes:
                raise InvalidArgument(f"a disk only grows: {size_bytes} is less than its {disk.size_bytes} bytes")
            position = self._append({"op": "resize", "vdisk": vdisk, "size_bytes": size_bytes})
            return self._describe(disk), position

        return self._in_loop(order)

    def do_vdisk_delete(self, vdisk: str, term: int | None) -> Json:
        def order() -> Result:
            self._check_term(term)
            disk = self._engine.state.vdisks.get(vdisk)
            if disk is None:
                return {"vdisk": vdisk}, self._engine.log.appended.position
            self._disconnect([vdisk])
            position = self._append({"op": "delete", "vdisk": vdisk})
            disk.generation += 1  # exports that are open die with it
            disk.reason = "deleted"
            return {"vdisk": vdisk}, position

        return self._in_loop(order)

    # -- durability ---------------------------------------------------------------------------------------------------

    def do_reopen(self, vdisks: list[str], term: int | None) -> Json:
        """Serve disks again that were unsynced when the machine died: nobody uses them who believes otherwise."""

        def order() -> Result:
            self._check_term(term)
            names = [d.vdisk for d in self._disks(vdisks) if d.reopen]
            if not names:
                return {"reopened": []}, self._engine.log.appended.position
            return {"reopened": names}, self._append({"op": "reopen", "vdisks": names})

        return self._in_loop(order)

    def do_set_write_through(self, vdisks: list[str], write_through: bool, term: int | None) -> Json:
        """From now on every write is answered when it is durable, or no longer."""

        def order() -> Result:
            self._check_term(term)
            names = [d.vdisk for d in self._disks(vdisks) if d.write_through != write_through]
            if not names:
                return {"write_through": write_through}, self._engine.log.appended.position
            op = {"op": "write_through", "vdisks": names, "write_through": bool(write_through)}
            return {"write_through": write_through}, self._append(op)

        return self._in_loop(order)

    # -- roles, gate, fence -------------------------------------------------------------------------------------------

    def _disconnect(self, vdisks: Sequence[str], *, writers_only: bool = False) -> None:
        numbers = self._exports.numbers(vdisks, writers_only=writers_only)
        if numbers:
            self._server.disconnect(lambda conn: conn.number in numbers, after_flush=True)

    def _disconnect_gated(self, vdisks: Sequence[str], gate: str) -> None:
        """Clients keep what they negotiated: those of the other side of the gate must come back to see the change."""
        if gate == "readonly":
            self._disconnect(vdisks, writers_only=True)
            return
        active = [v for v in vdisks if self._disk(v).role == "active"]
        numbers = self._exports.numbers(active) - self._exports.numbers(active, writers_only=True)
        if numbers:
            self._server.disconnect(lambda conn: conn.number in numbers, after_flush=True)

    def do_set_role(self, vdisks: list[str], role: str, reason: str, term: int | None) -> Json:
        def order() -> Result:
            self._check_term(term)
            if role not in ROLES:
                raise InvalidArgument(f"role is one of {', '.join(ROLES)}, not {role!r}")
            disks = [d for d in self._disks(vdisks) if d.role != role]
            if disks:
                names = [d.vdisk for d in disks]
                self._disconnect(names)
                position = self._append(ops.role(disks, role, reason))
            else:
                position = self._engine.log.appended.position
            return {"generations": {v: self._disk(v).generation for v in vdisks}}, position

        return self._in_loop(order)

    def do_set_gated(self, vdisks: list[str], gated: bool) -> Json:
        def order() -> Result:
            names = [d.vdisk for d in self._disks(vdisks) if d.gated != gated]
            if not names:
                return {"gated": gated}, self._engine.log.appended.position
            for name in names:  # flagged while running: this run's answer is known
                self._exports.gates.setdefault(name, ("open", ""))
            return {"gated": gated}, self._append({"op": "gated", "vdisks": names, "gated": gated})

        return self._in_loop(order)

    def do_set_gate(self, vdisks: list[str], gate: str, reason: str) -> Json:
        def order() -> Result:
            if gate not in ("open", "readonly"):
                raise InvalidArgument("a gate is open or readonly")
            for disk in self._disks(vdisks):
                self._exports.gates[disk.vdisk] = (gate, reason)
            self._disconnect_gated(vdisks, gate)
            return {"gate": gate}, 0

        return self._in_loop(order)

    def do_fence(
        self, vdisks: list[str], reason: str, snapshot: str | None, manifest: Json, owner: str, term: int | None
    ) -> Json:
        """Stop accepting, finish what is in flight, raise generations and mark, in one durable batch (design 4.4)."""

        def order() -> Result:
            self._check_term(term)
            disks = self._disks(vdisks)
            existing = self._engine.state.snapshots.get(snapshot) if snapshot else None
            records: list[Op] = []
            if any(d.role != "down" for d in disks):
                records.append(ops.role(disks, "down", reason))
            if snapshot is not None and existing is None:
                records.append(self._seal(disks, snapshot, manifest, owner))
            self._disconnect(vdisks)
            position = self._append(*records) if records else self._engine.log.appended.position
            seen = shown(self._engine.state, self._snapshot(snapshot)) if snapshot else None
            return {"generations": {d.vdisk: d.generation for d in disks}, "snapshot": seen}, position

        return self._in_loop(order)

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def _snapshot(self, snapshot: str) -> Snapshot:
        found = self._engine.state.snapshots.get(snapshot)
        if found is None:
            raise NotFound(f"no such snapshot: {snapshot}")
        return found

    def _member(self, snapshot: str, disk: str) -> Member:
        for member in self._snapshot(snapshot).members:
            if member.disk == disk:
                return member
        raise NotFound(f"snapshot {snapshot} holds no disk {disk}")

    def _seal(self, disks: Sequence[VDisk], snapshot: str, manifest: Json, owner: str) -> Op:
        check_uuid(snapshot, "snapshot")
        return ops.seal(disks, snapshot=snapshot, manifest=manifest, created_at=self._engine.clock.now(), owner=owner)

    def do_snapshot_create(self, snapshot: str, disks: list[str], manifest: Json, owner: str, term: int | None) -> Json:
        def order() -> Result:
            self._check_term(term)
            if snapshot in self._engine.state.snapshots:
                return shown(self._engine.state, self._snapshot(snapshot)), self._engine.log.appended.position
            if self._engine.gauge is not None:
                self._engine.gauge.refuse_from(Level.SCARCE, "no new snapshot is taken")
            position = self._append(self._seal(self._disks(disks), snapshot, manifest, owner))
            return shown(self._engine.state, self._snapshot(snapshot)), position

        return self._in_loop(order)

    def do_snapshot(self, snapshot: str) -> Json:
        return self._in_loop(lambda: (shown(self._engine.state, self._snapshot(snapshot)), 0))

    def do_snapshots(self, owner: str | None = None) -> list[Json]:
        def order() -> tuple[list[Json], int]:
            state = self._engine.state
            return [shown(state, s) for s in state.snapshots.values() if owner in (None, s.owner)], 0

        return self._in_loop(order)

    def do_snapshot_delete(self, snapshot: str, term: int | None) -> Json:
        def order() -> Result:
            self._check_term(term)  # also one that is not known: the store may have received it, news may be on its way
            return {"snapshot": snapshot}, self._append({"op": "snapshot_delete", "snapshot": snapshot})

        return self._in_loop(order)

    def do_restore(self, snapshot: str, disks: dict[str, str], disconnect_writers: bool, term: int | None) -> Json:
        """SET_ROOT of every disk in one batch: all of them are at the snapshot, or none."""

        def order() -> Result:
            self._check_term(term)
            check_targets(disks.values())
            targets = self._disks(list(disks.values()))
            members = {target: self._member(snapshot, source) for source, target in disks.items()}
            if any(d.chunk_bytes != members[d.vdisk].chunk_bytes for d in targets):
                raise InvalidArgument("the snapshot's disk has another chunk size; clone it instead")
            writers = self._exports.writers([d.vdisk for d in targets])
            if writers and not disconnect_writers:
                raise WriterConnected(
                    f"{len(writers)} client(s) have these disks open: {', '.join(sorted(set(writers))[:5])}. "
                    "Shut the guest down, or confirm that they are to be disconnected"
                )
            self._disconnect([d.vdisk for d in targets])
            records = [
                ops.set_root(d, parent=members[d.vdisk].epoch, size_bytes=members[d.vdisk].size_bytes) for d in targets
            ]
            position = self._append(*records)
            return {"generations": {d.vdisk: d.generation for d in targets}}, position

        return self._in_loop(order)
