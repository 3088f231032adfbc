# SPDX-License-Identifier: Apache-2.0
"""Two sites in one process whose snapshots went both ways, with the real scrub, healer, read-back and wire codec."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from stargate.clock import SystemClock
from stargate.errors import PeerRefused
from stargate.extents.format import Kind
from stargate.extents.store import ExtentStore
from stargate.extents.tree import walk_nodes
from stargate.peer.frame import HEADER_BYTES, Type, parse_header
from stargate.peer.items import Fetch, Item, Items, Place
from stargate.peer.readback import ReadBack
from stargate.peer.wire import Message, decode_payload, encode_frame
from stargate.scrub.scrubber import Scrubber
from stargate.store.grants import shared_roots
from stargate.units import BLOCK_BYTES, KiB
from tests.engine.harness import Site, Store

DISK_BYTES = 512 * KiB
BLOCKS = DISK_BYTES // BLOCK_BYTES


def travelled(message: Message) -> Message:
    """As the other end gets it."""
    raw = encode_frame(message, 1)
    header = parse_header(raw[:HEADER_BYTES], frozenset(Type))
    return decode_payload(raw[:HEADER_BYTES], header, raw[HEADER_BYTES:])


class Beside:
    """The other site, asked without a socket; it decides by its own catalog."""

    def __init__(self, own: Member, other: Member) -> None:
        self._own = own
        self._other = other
        self.site_id = other.site_id

    def roots(self) -> Iterable[bytes]:
        return shared_roots(self._own.store.hub.state, self.site_id)

    def fetch(self, root: bytes, places: Sequence[Place]) -> Sequence[Item] | None:
        self._other.fetches += 1
        question = travelled(Fetch(root, places))
        assert isinstance(question, Fetch)
        book = self._other.store.grants
        try:
            answer = travelled(ReadBack(self._other.store.extents, book.shares).fetch(self._own.site_id, question))
        except PeerRefused:
            return None
        assert isinstance(answer, Items)
        return answer.items

    def close(self) -> None:
        """Nothing was opened."""


@dataclass
class Member:
    """One site with its scrub. `other` None: it has no peer."""

    site: Site
    site_id: str
    other: Member | None = None
    scrubber: Scrubber | None = None
    fetches: int = 0

    @property
    def store(self) -> Store:
        assert self.site.store is not None
        return self.site.store

    def start(self) -> None:
        self.start_store()
        self.site.start_front()
        self.site.connect()
        self.site.settle()

    def start_store(self) -> None:
        self.site.start_store()
        store = self.store
        self.scrubber = Scrubber(
            self.site.disk, store.hub, store.extents, store.worker, self.site._table, self._sources, SystemClock(), 0
        )
        store.worker.on_damage = self.scrubber.healer.ask

    def _sources(self) -> list[Beside]:
        return [] if self.other is None or self.other.site.store is None else [Beside(self, self.other)]

    def stop(self) -> None:
        self.site.kill_front()
        self.site.kill_store()
        self.scrubber = None

    def scrub(self) -> dict[str, object]:
        """One pass; also over what lies in the log."""
        assert self.scrubber is not None
        if self.site.front is not None:
            self.store.worker._durable = self.site.front.engine.log.durable.position
        return self.scrubber.run_pass()


@dataclass
class World:
    """`a` and `b`, paired."""

    rng: Random
    a: Member = field(init=False)
    b: Member = field(init=False)

    def __post_init__(self) -> None:
        self.a, self.b = (Member(Site(self.rng), str(uuid.UUID(int=n))) for n in (1, 2))
        self.a.other, self.b.other = self.b, self.a
        for member in (self.a, self.b):
            member.start()

    def replicate(self, source: Member, target: Member, snapshot: str) -> None:
        """The state that a finished replication leaves in both catalogs and stores."""
        found = source.store.hub.state.snapshots[snapshot]
        epochs = source.store.hub.state.epochs
        roots = {m.disk: bytes.fromhex(epochs[m.epoch].root or "") for m in found.members}
        with target.store.extents.hold():
            for root in roots.values():
                copy_tree(source.store.extents, target.store.extents, root)
            members = [
                {
                    "disk": m.disk,
                    "epoch": str(uuid.UUID(int=self.rng.getrandbits(128))),
                    "root": roots[m.disk].hex(),
                    "size_bytes": m.size_bytes,
                    "chunk_bytes": m.chunk_bytes,
                }
                for m in found.members
            ]
            op = {"op": "received", "snapshot": snapshot, "members": members, "manifest": found.manifest}
            target.store.hub.commit({**op, "created_at": 1.0, "owner": "", "origin": source.site_id})
        source.store.hub.commit({"op": "sent", "snapshot": snapshot, "site_id": target.site_id})
        for member in (source, target):
            member.site.settle()


def copy_tree(source: ExtentStore, target: ExtentStore, root: bytes) -> None:
    """Children first, as a sync does it."""
    nodes = list(walk_nodes(source, root))
    chunks = {chunk for node in nodes if node.kind == Kind.LEAF for chunk in node.children}
    for name in [*sorted(chunks), *(node.digest for node in reversed(nodes))]:
        codec, payload, size_bytes = source.raw(name)
        target.put_verified(source.kind(name), name, codec, payload, size_bytes)
    target.flush()
