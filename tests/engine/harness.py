# SPDX-License-Identifier: Apache-2.0
"""The real engine without threads, sockets or files: front, line and store over a `MemDisk`, one step at a time.

`Site` holds the parts, `Model` what must be readable. A crash gives any state that a power cut may leave; after it
the engine must hold a prefix of what was ordered that contains everything made durable, for all disks and snapshots
at once.
"""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from stargate.catalog.state import BatchRef
from stargate.clock import Clock, SystemClock
from stargate.errors import DamagedData
from stargate.extents.index import MemoryIndex
from stargate.extents.reader import ExtentReader
from stargate.extents.store import ExtentStore
from stargate.extents.tree import TreeReader
from stargate.front.engine import FrontEngine
from stargate.front.exports import FrontExports
from stargate.front.layers import Layers
from stargate.front.link import StoreLink
from stargate.front.orders import FrontOrders
from stargate.front.recovery import load_contents, load_state, log_reader, open_log, replay
from stargate.front.unsynced import note_boot
from stargate.fs.memdisk import MemDisk, Op
from stargate.hot.format import HotTable
from stargate.hot.regions import HotReader, read_batch_table
from stargate.store.deletions import PendingDeletions
from stargate.store.grants import CatalogGrants
from stargate.store.hub import CatalogHub
from stargate.store.sweep import Sweeper
from stargate.store.worker import Worker
from stargate.units import BLOCK_BYTES, KiB, MiB
from tests.engine.model import Image, Model

SEGMENT_BYTES = 256 * KiB
CAP_BYTES = 3 * MiB
REGION_BYTES = 128 * KiB


class PowerCut(BaseException):
    """Nothing of the engine sees it coming."""


class CutDisk(MemDisk):
    """A `MemDisk` whose power goes at the `cut_at`th call from now; 0 = it stays."""

    cut_at = 0

    def _call(self, op: Op) -> bool:
        if self.cut_at:
            self.cut_at -= 1
            if self.cut_at == 0:
                raise PowerCut
        return super()._call(op)

    def crash(self, rng: Random) -> CutDisk:
        after = CutDisk(capacity_bytes=self.capacity_bytes)
        after.__dict__.update(super().crash(rng).__dict__)
        return after

    def release_locks(self, *prefixes: str) -> None:
        """The process that held them is gone."""
        self._locked = {name for name in self._locked if not name.startswith(prefixes)}


class Mailbox:
    """One end of the line: what is sent lies here until somebody takes it."""

    def __init__(self) -> None:
        self.messages: deque[dict[str, Any]] = deque()

    def send(self, kind: str, **fields: Any) -> None:
        self.messages.append(json.loads(json.dumps({"t": kind, **fields})))

    def close(self) -> None:
        self.messages.clear()


class _InPlace:
    """What orders need of the NBD server: there are no connections here."""

    def call_soon(self, function: Callable[[], object]) -> None:
        function()

    def disconnect(self, which: object, *, after_flush: bool) -> None:
        """Nobody is connected."""


@dataclass(slots=True)
class Front:
    engine: FrontEngine
    exports: FrontExports
    orders: FrontOrders
    link: StoreLink
    calls: deque[Callable[[], None]] = field(default_factory=deque)
    line: Mailbox = field(default_factory=Mailbox)


@dataclass(slots=True)
class Store:
    hub: CatalogHub
    extents: ExtentStore
    worker: Worker
    sweeper: Sweeper
    grants: CatalogGrants
    line: Mailbox = field(default_factory=Mailbox)


def commit(exports: FrontExports) -> int:
    """As the NBD server does."""
    position = exports.commit()
    exports.committed()
    return position


class Site:
    """One site's engine; either half may be None (not running)."""

    segment_bytes = SEGMENT_BYTES
    cap_bytes = CAP_BYTES
    region_bytes = REGION_BYTES
    egroup_bytes = MiB

    def __init__(self, rng: Random, *, disk: CutDisk | None = None, clock: Clock | None = None) -> None:
        self.rng = rng
        self.disk = disk or CutDisk()
        self.clock = clock or SystemClock()
        self.index = MemoryIndex()
        self.boot_id = "boot 1"
        self.restarts = 0
        self.front: Front | None = None
        self.store: Store | None = None

    # -- the two processes --------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.start_store()
        self.start_front()
        self.connect()

    def start_store(self) -> None:
        for name in ("catalog", "hot"):
            self.disk.mkdir(name)
        hub = CatalogHub(self.disk)
        extents = ExtentStore(
            self.disk, self.index, writable=True, egroup_bytes=self.egroup_bytes, roots=hub.state.roots()
        )
        worker = Worker(self.disk, hub, extents, _never, region_bytes=self.region_bytes)
        grants = CatalogGrants(hub, self.clock, lambda: extents.epoch)
        grants.deleting = PendingDeletions(self.disk, hub, worker.drain_to)
        sweeper = Sweeper(hub, extents, grants, self._table, self.clock)
        worker._drop_epochs()
        self.store = Store(hub, extents, worker, sweeper, grants)

    def start_front(self) -> None:
        state = load_state(self.disk)
        oplog = open_log(self.disk, state, segment_bytes=self.segment_bytes, cap_bytes=self.cap_bytes)
        extents = ExtentReader(self.disk, self.index)
        layers = Layers(state, lambda root: TreeReader(extents, root))
        load_contents(state, layers, self._table)
        engine = FrontEngine(
            oplog,
            state,
            layers,
            log_reader=log_reader(self.disk, oplog),
            hot_reader=HotReader(self.disk, "hot"),
            chunks=extents,
            clock=self.clock,
        )
        replay(engine, oplog.replayed())
        if not state.log_id and engine.damage is None:
            engine.append_ops([{"op": "log_created", "log_id": oplog.log_id.hex()}])
        note_boot(engine, self.boot_id, self.clock.now())
        exports = FrontExports(engine)

        def durable(position: int, timeout_seconds: float) -> bool:
            return oplog.sync() >= position

        engine.sync.wait_durable = durable  # type: ignore[method-assign]
        calls: deque[Callable[[], None]] = deque()
        link = StoreLink(engine, "", call_soon=calls.append, read_table=self._table, on_restart=self._on_restart)
        self.front = Front(engine, exports, FrontOrders(engine, exports, _InPlace(), dict), link, calls)  # type: ignore[arg-type]

    def _table(self, ref: BatchRef) -> HotTable:
        return read_batch_table(self.disk, "hot", ref)

    def _on_restart(self) -> None:
        self.restarts += 1

    def connect(self) -> None:
        """What a session does after it connected."""
        assert self.front is not None
        assert self.store is not None
        self.front.line, self.store.line = Mailbox(), Mailbox()
        link = self.front.link
        attached = self.store.hub.attach(self.front.line, link._told, self.front.engine.state.n)  # type: ignore[arg-type]
        assert attached, "a front that was never further behind than its last session is told to start anew"
        link._line = self.store.line  # type: ignore[assignment]

    def disconnect(self) -> None:
        if self.front is not None:
            self.front.link._line = None
        if self.store is not None:
            self.store.hub.detach(self.store.hub.front)  # type: ignore[arg-type]

    def kill_front(self) -> None:
        """kill -9: what was written to the files stays."""
        self.disconnect()
        self.front = None
        self.disk.release_locks("oplog")

    def kill_store(self) -> None:
        self.disconnect()
        self.store = None
        self.index = copy.copy(self.index)
        self.disk.release_locks("catalog", "egroups", "hot/")

    def power_cut(self) -> None:
        """Everything stops; the disk is left as the rules allow. Sometimes the index is gone and must be rebuilt."""
        self.kill_front()
        self.kill_store()
        self.disk = self.disk.crash(self.rng)
        self.index = MemoryIndex() if self.rng.random() < 0.2 else copy.deepcopy(self.index)

    # -- steps --------------------------------------------------------------------------------------------------------

    def deliver(self, count: int) -> None:
        """Messages of the store reach the front's loop, and its acks the store."""
        front, store = self.front, self.store
        if front is None or store is None:
            return
        for _ in range(count):
            if front.line.messages:
                message = front.line.messages.popleft()
                if message["t"] == "welcome":
                    assert not message.get("restart")
                for op in message.get("ops", []) + ([message["op"]] if "op" in message else []):
                    front.link._take(op)
                if message["t"] == "log_damaged":
                    front.link._log_damaged(message["position"], message["reason"])
                if message["t"] == "seal":
                    front.link._seal_all()
            if store.line.messages:
                message = store.line.messages.popleft()
                if message["t"] == "ack":
                    store.hub.acked(message["n"])
                else:
                    store.worker.on_damage([bytes.fromhex(message["extent"])])

    def pump(self, count: int) -> None:
        """Turns of the front's loop."""
        if self.front is None:
            return
        for _ in range(count):
            if self.front.calls:
                self.front.calls.popleft()()

    def settle(self) -> None:
        """Until nothing is on the line any more."""
        while self.front is not None and self.store is not None and not self.restarts:
            if not (self.front.calls or self.front.line.messages or self.store.line.messages):
                return
            self.deliver(1)
            self.pump(1)

    def drain(self, up_to: int | None = None) -> bool:
        """One window, of what is durable below `up_to` (a position, None = all)."""
        if self.front is None or self.store is None:
            return False
        worker, durable = self.store.worker, self.front.engine.log.durable.position
        if worker._reader is None:
            worker._drain_turn()  # opens the log, knows of nothing to do yet
        worker._durable = durable if up_to is None else min(durable, up_to)
        return worker._drain_window(worker._covered())

    def fold(self) -> bool:
        return self.store is not None and self.store.worker._fold_turn()

    def sync(self) -> int:
        assert self.front is not None
        return self.front.engine.log.sync()

    # -- reading ------------------------------------------------------------------------------------------------------

    def content(self, name: str) -> bytes:
        assert self.front is not None
        export = self.front.exports.lookup(name)
        whole = b"".join(bytes(part) for part in export.read(0, export.size_bytes))
        later = export.read_later(0, export.size_bytes)
        assert later is None or b"".join(later()) == whole
        return whole

    def blocks(self, name: str) -> list[bytes | None]:
        """The export block by block; None where it is refused as damaged."""
        assert self.front is not None
        export = self.front.exports.lookup(name)
        found: list[bytes | None] = []
        for offset in range(0, export.size_bytes, BLOCK_BYTES):
            length = min(BLOCK_BYTES, export.size_bytes - offset)
            try:
                found.append(b"".join(bytes(part) for part in export.read(offset, length)))
            except DamagedData:
                found.append(None)
        return found


def _never() -> None:
    raise AssertionError("the store gave up")


__all__ = ["CutDisk", "Front", "Image", "Mailbox", "Model", "PowerCut", "Site", "Store"]
