# SPDX-License-Identifier: Apache-2.0
"""Two sites with real stores, real certificates and real sockets, for the tests of this folder."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stargate.clock import SystemClock
from stargate.errors import PeerRefused
from stargate.extents.index import Index, LmdbIndex, MemoryIndex
from stargate.extents.store import ExtentStore
from stargate.extents.tree import TreeFormat, TreeReader, diff, empty_root, update
from stargate.fs.disk import OsDisk
from stargate.peer.client import Target
from stargate.peer.conversation import AHEAD_BYTES
from stargate.peer.identity import Identity, Peer, PeerSet, create_identity
from stargate.peer.ingest import Grant, StoreIngest
from stargate.peer.server import PeerServer
from stargate.peer.sync import Order, SyncJob
from stargate.peer.wire import Item, Member, Scope
from stargate.transport import TcpTransport
from stargate.units import CHUNK_BYTES, GiB


@dataclass
class Book:
    """The catalog's part, in memory."""

    grants: dict[str, Grant] = field(default_factory=dict)
    published: dict[str, tuple[tuple[Member, ...], dict[str, Any]]] = field(default_factory=dict)

    def allow(self, session: str, site_id: str, snapshot: str, **more: Any) -> None:
        self.grants[session] = Grant(session, site_id, snapshot, **{"quota_bytes": 4 * GiB, **more})

    def grant(self, session: str, site_id: str, snapshot: str) -> Grant:
        found = self.grants.get(session)
        if found is None or (found.site_id, found.snapshot) != (site_id, snapshot):
            raise PeerRefused("nothing was granted to this session")
        return replace(found, published=snapshot in self.published)

    def shares(self, site_id: str, root: bytes) -> bool:
        return any(m.root == root for members, _ in self.published.values() for m in members)

    def room(self) -> None:
        """There always is."""

    def used(self, session: str, used_bytes: int) -> None:
        self.grants[session] = replace(self.grants[session], used_bytes=used_bytes)

    def publish(self, grant: Grant, members: Sequence[Member], manifest: dict[str, Any]) -> None:
        self.published[grant.snapshot] = (tuple(members), manifest)


class CountingIngest(StoreIngest):
    """Records what crossed the port."""

    def __init__(self, store: ExtentStore, book: Book) -> None:
        super().__init__(store, book)
        self.questions: list[tuple[Scope, list[bytes]]] = []
        self.items: list[Item] = []

    def has(self, grant: Grant, scope: Scope, names: Sequence[bytes]) -> list[bool]:
        self.questions.append((scope, list(names)))
        return super().has(grant, scope, names)

    def put(self, grant: Grant, items: Sequence[Item]) -> tuple[int, int]:
        found = super().put(grant, items)
        self.items += [item._replace(payload=b"") for item in items]
        return found


@dataclass
class Site:
    site_id: str
    identity: Identity
    store: ExtentStore
    peers: PeerSet
    book: Book
    ingest: CountingIngest
    server: PeerServer
    port: int

    def close(self) -> None:
        self.server.stop()
        self.store.close()


def make_site(folder: Path, index: Index | None = None) -> Site:
    identity = create_identity(folder / "identity", folder.name)
    store = ExtentStore(OsDisk(folder / "store"), index or MemoryIndex(), writable=True)
    site_id, peers, book = str(uuid.uuid4()), PeerSet(), Book()
    listener = TcpTransport.mutual_tls(identity, peers).listen("127.0.0.1", 0)
    ingest = CountingIngest(store, book)
    server = PeerServer([listener], peers, ingest, site_id=site_id, clock=SystemClock(), ahead_bytes=AHEAD_BYTES)
    server.start()
    return Site(site_id, identity, store, peers, book, ingest, server, listener.port)


def lmdb_site(folder: Path) -> Site:
    folder.mkdir(parents=True)
    return make_site(folder, LmdbIndex(folder / "index"))


def pair(a: Site, b: Site) -> None:
    a.peers.replace([Peer(b.site_id, b.identity.certificate_pem)])
    b.peers.replace([Peer(a.site_id, a.identity.certificate_pem)])


def version(store: ExtentStore, chunks: dict[int, bytes], count: int, *, root: bytes | None = None) -> bytes:
    """Root of a disk of `count` chunks with these contents (over those of `root`)."""
    names = [(index, store.put_chunk(data)) for index, data in sorted(chunks.items())]
    base = root or empty_root(store, TreeFormat(count * CHUNK_BYTES))
    made = update(store, base, names, size_bytes=count * CHUNK_BYTES)
    store.flush()
    return made


def noise(rng: random.Random, indexes: Iterable[int]) -> dict[int, bytes]:
    return {index: rng.randbytes(CHUNK_BYTES) for index in indexes}


def member(store: ExtentStore, root: bytes, disk: str | None = None) -> Member:
    shape = TreeReader(store, root).format
    return Member(disk or str(uuid.uuid4()), root, shape.size_bytes, shape.chunk_bytes)


def order(members: Sequence[Member], **more: Any) -> Order:
    fields: dict[str, Any] = {
        "session": str(uuid.uuid4()),
        "snapshot": str(uuid.uuid4()),
        "manifest": {"format": 1},
        "bases": {},
    }
    return Order(members=members, **{**fields, **more})


def job(source: Site, target: Site, what: Order, *, port: int | None = None, **more: Any) -> SyncJob:
    where = Target("127.0.0.1", port or target.port, target.site_id)
    fields: dict[str, Any] = {"own_site_id": source.site_id, "clock": SystemClock(), "pack_threads": 2, **more}
    return SyncJob(what, source.store, where, to_site(source, target.site_id), source.peers, **fields)


def to_site(source: Site, site_id: str) -> TcpTransport:
    return TcpTransport.mutual_tls(source.identity, source.peers, site_id=site_id)


def granted(source: Site, target: Site, what: Order, *, port: int | None = None, **more: Any) -> SyncJob:
    """A job that the target has allowed."""
    target.book.allow(what.session, source.site_id, what.snapshot, **more)
    return job(source, target, what, port=port)


def same_bytes(a: ExtentStore, b: ExtentStore, root: bytes) -> bool:
    """Every chunk of the version is readable on both stores and equal."""
    return all(a.read_chunk(name) == b.read_chunk(name) for _, _, name in diff(b, None, root))
