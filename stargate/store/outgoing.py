# SPDX-License-Identifier: Apache-2.0
"""Bytes to and from paired sites: outgoing sync jobs by id, and the port for incoming ones.

A job lives in memory: after a restart its owner (a row in the control plane) starts it again under the same id, and
the sync finds at
the peer what had already arrived.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from stargate.catalog.state import BatchRef, Snapshot
from stargate.catalog.state import Peer as CatalogPeer
from stargate.clock import Clock
from stargate.errors import NotFound, StargateError, Unavailable
from stargate.extents.store import ExtentStore
from stargate.hot.format import HotTable
from stargate.peer.client import PeerClient, Target
from stargate.peer.codec import PACK_THREADS
from stargate.peer.conversation import AHEAD_BYTES
from stargate.peer.early import EarlySender
from stargate.peer.identity import Identity, Peer, PeerSet, certificate_der, load_identity
from stargate.peer.ingest import StoreIngest
from stargate.peer.outbox import Cancelled
from stargate.peer.server import PeerServer
from stargate.peer.sync import Order, SyncJob
from stargate.peer.wire import Member
from stargate.store.ahead import Ahead, Windows
from stargate.store.grants import CatalogGrants
from stargate.store.hub import CatalogHub
from stargate.transport import TcpTransport

log = logging.getLogger(__name__)

JOBS_REMEMBERED_MAX = 1000
ROOTED_TIMEOUT_SECONDS = 600.0

Rooted = Callable[[str, float, Callable[[], bool]], Snapshot]
"""(snapshot, seconds, whether nobody waits any more). Raises Cancelled, NotFound, Unavailable, DamagedData."""

Make = Callable[[Callable[[], bool]], SyncJob]


class Pins(PeerSet):
    """The paired sites' certificates as the catalog has them."""

    def reload(self, peers: Mapping[str, CatalogPeer]) -> None:
        self.replace(Peer(p.site_id, p.certificate) for p in list(peers.values()))

    @staticmethod
    def check(certificate_pem: str) -> None:
        """Raises InvalidArgument for what is not one certificate."""
        certificate_der(certificate_pem)


class _Job:
    """A sync job together with the wait for its snapshot's fold. `ahead`: what `make` has delivered meanwhile.

    `make` is told how to see that it is cancelled."""

    def __init__(self, session: str, make: Make, arrived: Callable[[], None], ahead: Ahead | None = None) -> None:
        self.session = session
        self.cancelled = False
        self._ahead = ahead
        self._make = make
        self._arrived = arrived
        self._sync: SyncJob | None = None
        self._recorded = False
        self._error: dict[str, str] | None = None
        self._thread = threading.Thread(target=self._run, name="sync-start", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            sync = self._make(lambda: self.cancelled)
            self._sync = sync
            if self.cancelled:
                sync.cancel()
            if sync.run().state == "done":
                self._arrived()
                self._recorded = True
        except Cancelled:
            return
        except StargateError as exc:
            self._error = {"code": exc.code, "message": exc.message}
        except Exception as exc:
            log.exception("a replication could not be begun, or its end not recorded")
            self._error = {"code": "internal", "message": f"the engine failed internally ({type(exc).__name__})"}

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def cancel(self) -> None:
        self.cancelled = True
        if self._ahead is not None:
            self._ahead.cancel()
        if self._sync is not None:
            self._sync.cancel()

    def status(self) -> dict[str, Any]:
        """Done only when it is recorded here too: whoever reads `done` never starts the job again."""
        if self._sync is not None:
            found = self._sync.status().as_dict()
            if found["state"] == "done" and not self._recorded:
                return {**found, "state": "failed" if self._error else "running", "error": self._error}
            return found
        running = self.running  # first: an error is there before the end
        state = "failed" if self._error else "running" if running else "cancelled"
        counts = dict.fromkeys(
            ("done_bytes", "total_bytes", "wire_bytes", "chunks_total", "chunks_sent", "chunks_deduplicated"), 0
        )
        if self._ahead is not None:
            counts["chunks_sent"] = self._ahead.sender.counters.chunks_sent
            counts["wire_bytes"] = self._ahead.sender.wire_bytes
        return {"phase": "folding", "state": state, "error": self._error, **counts}


class Outgoing:
    """Sync jobs by id."""

    def __init__(
        self,
        hub: CatalogHub,
        extents: ExtentStore,
        read_table: Callable[[BatchRef], HotTable],
        identity_dir: Path,
        site_id: str,
        clock: Clock,
    ) -> None:
        self._hub = hub
        self._read_table = read_table
        self.store = extents
        self._identity_dir = identity_dir
        self.site_id = site_id
        self.clock = clock
        self.peers = Pins()
        self.peers.reload(hub.state.peers)
        self.heard_of: dict[str, tuple[str, int]] = {}
        """Where paired sites listened when something was last sent there."""
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()

    def identity(self) -> Identity:
        """Raises Unavailable while the site has none."""
        try:
            return load_identity(self._identity_dir)
        except OSError as exc:
            raise Unavailable("this site has no identity yet; pair it first", str(exc)) from exc

    def start(
        self,
        job: str,
        snapshot: str,
        *,
        target: Target,
        session: str,
        fingerprinting: bool,
        base: str | None,
        compress: bool,
        disks: Sequence[str],
        rooted: Rooted,
    ) -> None:
        """Start the job, or start it again when it ended or was cancelled; while it runs, nothing happens."""

        early = disks and fingerprinting and not self._is_rooted(snapshot)
        ahead = self._ahead(target, session, snapshot, disks, compress) if early else None

        def make(cancelled: Callable[[], bool]) -> SyncJob:
            with ahead or nullcontext():
                found = self._wait_rooted(rooted, snapshot, cancelled)
            bases = self._roots(base) if base is not None else {}
            order = Order(
                session=session,
                snapshot=snapshot,
                members=[self._member(m.disk, m.epoch, m.size_bytes, m.chunk_bytes) for m in found.members],
                manifest=found.manifest,
                bases=bases,
                fingerprinting=fingerprinting,
                compress=compress,
            )
            return SyncJob(
                order, self.store, target, self._transport(target), self.peers,
                own_site_id=self.site_id, clock=self.clock, pack_threads=PACK_THREADS,
                earlier=ahead.sender.counters if ahead else None,
                earlier_wire_bytes=ahead.sender.wire_bytes if ahead else 0,
            )  # fmt: skip

        def arrived() -> None:
            self.heard_of[target.site_id] = target.address, target.port
            self._note_sent(snapshot, target.site_id)

        with self._lock:
            running = self._jobs.get(job)
            if running is not None and running.running and not running.cancelled:
                return
            self._jobs.pop(job, None)  # a cancelled one ends beside its successor
            self._jobs[job] = _Job(session, make, arrived, ahead)
            self._forget()

    def _is_rooted(self, snapshot: str) -> bool:
        with self._hub.lock:
            found = self._hub.state.snapshots.get(snapshot)
            return found is not None and self._hub.state.snapshot_state(found) == "rooted"

    @staticmethod
    def _wait_rooted(rooted: Rooted, snapshot: str, cancelled: Callable[[], bool]) -> Snapshot:
        """Raises Cancelled, DamagedData, Unavailable."""
        try:
            return rooted(snapshot, ROOTED_TIMEOUT_SECONDS, cancelled)
        except NotFound as exc:  # here that is no proof: the drain may have stood still all the time
            raise Unavailable(exc.message) from exc

    def _transport(self, target: Target) -> TcpTransport:
        return TcpTransport.mutual_tls(self.identity(), self.peers, site_id=target.site_id)

    def _ahead(self, target: Target, session: str, snapshot: str, disks: Sequence[str], compress: bool) -> Ahead:
        def connect() -> PeerClient:
            return PeerClient.connect(target, self._transport(target), self.peers, self.site_id, session)

        sender = EarlySender(
            session, snapshot, self.store, clock=self.clock, compress=compress, pack_threads=PACK_THREADS
        )
        return Ahead(sender, connect, Windows(self._hub, self._read_table, snapshot, disks))

    def _note_sent(self, snapshot: str, site_id: str) -> None:
        """From now on the site may read it back, and is asked for it when it is damaged here."""
        with self._hub.lock:
            found = self._hub.state.snapshots.get(snapshot)
            if found is not None and site_id not in found.sent:
                self._hub.commit({"op": "sent", "snapshot": snapshot, "site_id": site_id})

    def _member(self, disk: str, epoch: str, size_bytes: int, chunk_bytes: int) -> Member:
        root = bytes.fromhex(self._hub.state.epochs[epoch].root or "")
        return Member(disk, root, size_bytes, chunk_bytes)

    def _roots(self, snapshot: str) -> dict[str, bytes]:
        """Disk -> root of an older snapshot that the peer has; empty when it is gone here."""
        with self._hub.lock:
            found = self._hub.state.snapshots.get(snapshot)
            if found is None or self._hub.state.snapshot_state(found) != "rooted":
                return {}
            return {m.disk: bytes.fromhex(self._hub.state.epochs[m.epoch].root or "") for m in found.members}

    def _forget(self) -> None:
        for name in [n for n, j in self._jobs.items() if not j.running][:-JOBS_REMEMBERED_MAX]:
            del self._jobs[name]

    def _job(self, job: str) -> _Job:
        with self._lock:
            found = self._jobs.get(job)
        if found is None:
            raise NotFound("the engine does not know this job (it was restarted since); start it again")
        return found

    def status(self, job: str) -> dict[str, Any]:
        return self._job(job).status()

    def cancel(self, job: str, session: str | None = None) -> None:
        """Stop it soon. With `session` only if that is the one it runs in: not a successor of the one that is meant."""
        found = self._job(job)
        if session in (None, found.session):
            self._cancel([found])

    def stop(self) -> None:
        with self._lock:
            jobs = list(self._jobs.values())
        self._cancel(jobs)

    def _cancel(self, jobs: list[_Job]) -> None:
        for job in jobs:
            job.cancel()
        with self._hub.changed:
            self._hub.changed.notify_all()  # who waits for a fold looks again


class PeerPort:
    """The port where paired sites deliver snapshots. Opens as soon as the site has an identity."""

    def __init__(
        self, outgoing: Outgoing, grants: CatalogGrants, address: str, port: int, stopped: threading.Event
    ) -> None:
        self._outgoing = outgoing
        self._grants = grants
        self._address = address
        self._port = port
        self._stopped = stopped
        self._server: PeerServer | None = None
        self._thread = threading.Thread(target=self._open, name="peer-port", daemon=True)

    def start(self) -> None:
        if self._port:
            self._thread.start()

    def _open(self) -> None:
        while not self._stopped.is_set():
            try:
                transport = TcpTransport.mutual_tls(self._outgoing.identity(), self._outgoing.peers)
                listener = transport.listen(self._address, self._port)
            except (Unavailable, OSError) as exc:
                log.info("peer port not open yet: %s", exc)
                self._stopped.wait(1.0)
                continue
            ingest = StoreIngest(self._outgoing.store, self._grants)
            self._server = PeerServer(
                [listener],
                self._outgoing.peers,
                ingest,
                site_id=self._outgoing.site_id,
                clock=self._outgoing.clock,
                ahead_bytes=AHEAD_BYTES,
            )
            self._server.start()
            log.info("peer port open at %s:%d", self._address, self._port)
            return

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
