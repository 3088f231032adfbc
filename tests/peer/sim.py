# SPDX-License-Identifier: Apache-2.0
"""Two sites in one process, disk, network and time in memory: the real sender and receiver under a seed."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from stargate.extents import nodes
from stargate.extents.format import Kind
from stargate.extents.index import MemoryIndex
from stargate.extents.store import ExtentStore
from stargate.extents.tree import TreeFormat, empty_root, update
from stargate.fs.memdisk import MemDisk
from stargate.memtransport import MemoryNetwork
from stargate.peer.client import Target
from stargate.peer.identity import Identity, Peer, PeerSet, certificate_der, create_identity
from stargate.peer.ingest import Grant
from stargate.peer.server import PeerServer
from stargate.peer.sync import Order, SyncJob
from stargate.peer.wire import Member
from stargate.units import KiB
from tests.peer.sites import Book, CountingIngest

CHUNK = 4 * KiB
FANOUT = 4
"""Small chunks and narrow nodes: deep trees of little data."""


class VirtualClock:
    """Time that passes only where somebody sleeps, and then at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._time = 1_000.0

    def monotonic(self) -> float:
        with self._lock:
            return self._time

    def now(self) -> float:
        return self.monotonic()

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._time += seconds


class SimIngest(CountingIngest):
    """Notes what was here when a session began, which the peer must then not send."""

    def __init__(self, store: ExtentStore, book: Book, index: MemoryIndex) -> None:
        super().__init__(store, book)
        self._index = index
        self.here: set[bytes] = set()

    def grant(self, session: str, site_id: str, snapshot: str) -> Grant:
        found = super().grant(session, site_id, snapshot)
        self.here = {digest for digest, _ in self._index.items()} | {item.hash for item in self.items}
        return found


@dataclass
class Certificates:
    """Two identities, made once: what is random in them decides nothing."""

    source: Identity
    target: Identity

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        return cls(create_identity(folder / "source", "source"), create_identity(folder / "target", "target"))


@dataclass
class Sim:
    """The source's store never fails; the target can lose its power."""

    rng: Random
    certificates: Certificates
    clock: VirtualClock = field(default_factory=VirtualClock)
    book: Book = field(default_factory=Book)

    def __post_init__(self) -> None:
        self.network = MemoryNetwork(self.clock, Random(self.rng.random()))
        self.source_id, self.target_id = (str(uuid.UUID(int=self.rng.getrandbits(128))) for _ in range(2))
        self.source = ExtentStore(MemDisk(), MemoryIndex(), writable=True)
        self.disk, self.index = MemDisk(), MemoryIndex()
        self.sent: list[list[bytes]] = []
        self._power_on()

    def _power_on(self) -> None:
        self.store = ExtentStore(self.disk, self.index, writable=True)
        self.ingest = SimIngest(self.store, self.book, self.index)
        peers = PeerSet([Peer(self.source_id, self.certificates.source.certificate_pem)])
        transport = self.network.transport(certificate_der(self.certificates.target.certificate_pem))
        listener = transport.listen("target", 2009)
        self.server = PeerServer([listener], peers, self.ingest, site_id=self.target_id, clock=self.clock)
        self.server.start()

    def power_cut(self) -> None:
        """What the target had not made durable is lost, or torn."""
        self.server.stop()
        self.disk = self.disk.crash(self.rng)
        self._power_on()

    def close(self) -> None:
        self.server.stop()
        self.store.close()
        self.source.close()

    def disk_of(self, count: int, filled: int) -> Member:
        """A disk at the source: `filled` of its chunks hold data."""
        names = [(i, self.source.put_chunk(self.rng.randbytes(CHUNK))) for i in self.places(count, filled)]
        empty = empty_root(self.source, TreeFormat(count * CHUNK, CHUNK, FANOUT))
        root = update(self.source, empty, names)
        self.source.flush()
        return Member(str(uuid.UUID(int=self.rng.getrandbits(128))), root, count * CHUNK, CHUNK)

    def places(self, count: int, filled: int) -> list[int]:
        return sorted(self.rng.sample(range(count), filled))

    def job(self, members: Sequence[Member], **more: Any) -> SyncJob:
        """Granted already."""
        session, snapshot = (str(uuid.UUID(int=self.rng.getrandbits(128))) for _ in range(2))
        self.book.allow(session, self.source_id, snapshot)
        order = Order(session, snapshot, members, {"format": 1}, {}, **more)
        peers = PeerSet([Peer(self.target_id, self.certificates.target.certificate_pem)])
        transport = self.network.transport(certificate_der(self.certificates.source.certificate_pem))
        target = Target("target", 2009, self.target_id)
        return SyncJob(order, self.source, target, transport, peers, own_site_id=self.source_id, clock=self.clock)

    def run(self, job: SyncJob) -> str:
        """One attempt, until the target has dealt with all of it: `done`, or the code of the error."""
        before = len(self.ingest.items)
        status = job.run()
        self.network.wait_quiet()
        self.sent.append([item.hash for item in self.ingest.items[before:]])
        return status.error["code"] if status.error else status.state

    def half_trees(self) -> list[bytes]:
        """Nodes that the target shows although something below them is missing."""
        shown = {digest: loc.kind for digest, loc in self.index.items()}
        return [
            digest
            for digest, kind in shown.items()
            if kind != Kind.CHUNK and set(nodes.children(kind, self.store.read_node(digest))) - set(shown)
        ]
