# SPDX-License-Identifier: Apache-2.0
"""A site of the simulation: the real halves of `tests.engine.harness.Site`, with their threads as tasks, and its port.

What runs here as a task and in the product as a thread: drain, fold, sweep, each outgoing sync, each connection of the
peer port. The front's loop is the world itself.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from stargate.fs.memdisk import Op
from stargate.memtransport import MemoryListener, MemoryStream
from stargate.peer.client import Target
from stargate.peer.identity import certificate_der
from stargate.peer.ingest import StoreIngest
from stargate.peer.server import PeerServer
from stargate.peer.sync import Order, SyncJob
from stargate.scrub.scrubber import Scrubber
from stargate.store.grants import CatalogGrants
from stargate.store.hub import CatalogHub
from stargate.store.orders import StoreOrders
from stargate.store.outgoing import Outgoing
from stargate.store.worker import Worker
from tests.engine.harness import CutDisk, PowerCut, Site
from tests.sim import mending
from tests.sim.baton import Atomic, Baton, BatonCondition, Task
from tests.sim.certificates import CERTIFICATES
from tests.sim.clock import VirtualClock
from tests.sim.guests import Guests, Violation
from tests.sim.mangle import SimNetwork, SiteTransport, silence

PORT = 2009
ROOTED_SECONDS = 600.0


class Trace:
    """What happened, as a hash: two runs of a seed are the same when theirs are."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.watch: Callable[[str], object] = str
        """Is given every entry as text."""

    def add(self, *what: object) -> None:
        text = repr(what)
        self._hash.update(text.encode())
        self.watch(text)

    def digest(self) -> str:
        return self._hash.hexdigest()


class SimDisk(CutDisk):
    """A disk whose calls are points of the baton and part of the trace."""

    baton: Baton
    told: Trace
    off = False
    """The power is gone: no call returns any more."""
    excused = False
    """It was told to fail; errors are allowed until the site's next start."""
    failed = False
    """It did fail."""

    def attach(self, baton: Baton, told: Trace) -> SimDisk:
        self.baton, self.told = baton, told
        self._guard = Atomic(baton)  # type: ignore[assignment]
        return self

    def _call(self, op: Op) -> bool:
        # The caller holds the guard of this disk alone; the call itself has not begun.
        baton = self.baton
        if baton.depth == 1:
            baton.depth = 0
            try:
                baton.point()
            finally:
                baton.depth = 1
        baton.require_alive()
        if self.off:
            raise PowerCut
        self.told.add(op.name, op.path, op.offset, op.length)
        self.trace.clear()
        try:
            return super()._call(op)
        except PowerCut:
            self.off = True
            raise
        except OSError:
            self.failed = True
            raise

    def crash(self, rng: Random) -> SimDisk:
        after = SimDisk(capacity_bytes=self.capacity_bytes)
        after.__dict__.update(super().crash(rng).__dict__)
        after.off = False
        return after.attach(self.baton, self.told)


class PeerOrders(StoreOrders):
    """The store's orders that concern other sites; those about space need parts that nobody asks for here."""

    def __init__(
        self, hub: CatalogHub, worker: Worker, grants: CatalogGrants, outgoing: Outgoing, clock: VirtualClock
    ) -> None:
        self._hub = hub
        self._worker = worker
        self._grants = grants
        self._outgoing = outgoing
        self._clock = clock


class SimSite(Site):
    """`number` 0, 1, ...; `address` is where other sites find its peer port."""

    disk: SimDisk

    def __init__(
        self, number: int, rng: Random, clock: VirtualClock, baton: Baton, network: SimNetwork, told: Trace
    ) -> None:
        super().__init__(rng, disk=SimDisk().attach(baton, told), clock=clock)
        self.number = number
        self.site_id = str(uuid.UUID(int=number + 1))
        self.address = f"site{number}"
        self.baton = baton
        self.network = network
        self._transport = network.transport(certificate_der(CERTIFICATES[number]))
        self._listener: MemoryListener | None = None
        self.told = told
        self.port: PeerServer | None = None
        self.outgoing: Outgoing | None = None
        self.scrubber: Scrubber | None = None
        self.lies = 0
        """Answers to a peer that heals which hold something else than they say."""
        self.jobs: dict[str, SyncJob] = {}
        self.streams: list[MemoryStream] = []
        self.guests: Guests
        self.must: set[str] = set()
        """Snapshots that other sites were told have arrived here."""
        self.store_failed = False
        self.lost = False
        """It refuses to start over damage, or lost the tail of its log to it."""
        self.log_rotten = False
        """Bytes of its log or catalog changed by themselves."""
        self.catalog_rotten = False
        self.drained = 0
        """Up to this position of the log all was in the catalog when the store ended last."""
        self.note = b""
        """What the last power cut left of the log's note of its durable position."""

    def calm(self) -> None:
        """Before a start: the disk does what it is told again. A half that runs on may know of errors still."""
        disk = self.disk
        assert isinstance(disk, SimDisk)
        disk.fail_at = disk.fail_fsync = 0
        disk.capacity_bytes = None
        disk.failed = False
        disk.excused = disk.excused and (self.front is not None or self.store is not None)
        self.restarts = 0
        self.store_failed = False

    # -- the two processes --------------------------------------------------------------------------------------------

    def start_store(self) -> None:
        super().start_store()
        store = self.store
        assert store is not None
        lock = Atomic(self.baton)
        store.hub.lock, store.hub.changed = lock, BatonCondition(self.baton)  # type: ignore[assignment]
        store.hub.on_frozen = self._store_ends
        store.extents.lock = lock  # type: ignore[assignment]
        store.worker._yield = self.baton.point  # type: ignore[method-assign]
        ingest = StoreIngest(store.extents, store.grants)
        ingest._shapes._lock = lock  # type: ignore[assignment]
        ingest._read_back = mending.LyingReadBack(self)
        self.outgoing = Outgoing(store.hub, store.extents, self._table, Path(), self.site_id, self.clock)
        self.port = PeerServer([], self.outgoing.peers, ingest, site_id=self.site_id, clock=self.clock)
        self.orders = PeerOrders(store.hub, store.worker, store.grants, self.outgoing, self.clock)
        self.scrubber = mending.scrubber(self)
        self._listener = self._transport.listen(self.address, PORT)
        self.jobs = {}

    def connect(self, *, anew: bool = False) -> None:
        """As a front does by itself when it lost the line; it starts anew when it is told to. `anew`: it just did."""
        assert self.front is not None
        assert self.store is not None
        self.disconnect()
        for line in (self.front.line, self.store.line):
            line.messages.clear()
        link = self.front.link
        if self.store.hub.attach(self.front.line, link._told, self.front.engine.state.n):  # type: ignore[arg-type]
            link._line = self.store.line  # type: ignore[assignment]
            return
        if anew:
            raise Violation(f"{self.address}: a front that has just read the catalog is sent away")
        self.front.line.messages.clear()
        self.kill_front()
        self.start_front()
        self.connect(anew=True)

    def _store_ends(self) -> None:
        """What the service does when the catalog takes nothing more: it ends, and is started again."""
        self.store_failed = True

    def kill_store(self) -> None:
        if self.store is not None:
            self.drained = self.store.hub.state.covered.position
            self.baton.kill(self)
        for stream in self.streams:
            stream.close()
        self.streams.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.port = self.outgoing = self.scrubber = None
        self.jobs = {}
        super().kill_store()

    def power_cut(self) -> None:
        for stream in self.streams:
            silence(stream)
        super().power_cut()
        self.note = self.disk.snapshot().get("oplog/durable", b"")

    # -- tasks --------------------------------------------------------------------------------------------------------

    def busy(self, name: str) -> bool:
        return any(task.owner is self and task.name == name for task in self.baton.tasks)

    def task(self, name: str, body: Callable[[], object]) -> Task | None:
        """One task of a name at a time, as the store has one thread for each. None: it runs already."""
        if self.store is None or self.busy(name):
            return None
        return self.baton.spawn(self, name, body)

    def pair(self, other: SimSite) -> None:
        self.orders.do_peer_set(other.site_id, other.address, CERTIFICATES[other.number], other.address, PORT)

    def serve(self, stream: MemoryStream) -> None:
        """A connection of another site, in a task of its own."""
        if self.port is None:
            stream.close()
            return
        self.streams.append(stream)
        self.baton.spawn(self, "serve", lambda port=self.port: port._serve(stream))

    def send(self, other: SimSite, snapshot: str, session: str, *, base: str | None, **how: Any) -> None:
        """The body of a replication, as `Outgoing` starts it."""
        outgoing = self.outgoing
        assert outgoing is not None
        found = self.orders.rooted(snapshot, ROOTED_SECONDS)
        order = Order(
            session=session,
            snapshot=snapshot,
            members=[outgoing._member(m.disk, m.epoch, m.size_bytes, m.chunk_bytes) for m in found.members],
            manifest=found.manifest,
            bases=outgoing._roots(base) if base is not None else {},
            **how,
        )
        transport = SiteTransport(self._transport, self.network, self.streams)
        target = Target(other.address, PORT, other.site_id)
        job = SyncJob(
            order, outgoing.store, target, transport, outgoing.peers, own_site_id=self.site_id, clock=self.clock
        )
        self.jobs[session] = job
        job.run()
        if job.status().state == "done":
            outgoing._note_sent(snapshot, other.site_id)
