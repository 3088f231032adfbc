# SPDX-License-Identifier: Apache-2.0
"""Another site that sends a snapshot: its store, and one delivery through the real receiving side."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from random import Random

from stargate.catalog.state import Op
from stargate.errors import PeerRefused
from stargate.extents import nodes
from stargate.extents.format import ZERO_HASH, Codec, Kind
from stargate.extents.index import MemoryIndex
from stargate.extents.store import ExtentStore
from stargate.extents.tree import TreeFormat, TreeReader, empty_root, update
from stargate.fs.memdisk import MemDisk
from stargate.peer.ingest import Grant, StoreIngest
from stargate.peer.wire import Item, Member, Scope
from stargate.units import CHUNK_BYTES, GiB
from tests.engine.harness import Store
from tests.engine.model import Image

CHUNKS = 9
FANOUT = 4
SITE_ID = str(uuid.UUID(int=0xFEED))
PEER: Op = {"op": "peer", "site_id": SITE_ID, "name": "other", "certificate": "none"}


class Remote:
    """Makes snapshots of one disk; each differs from the one before in some chunks."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.store = ExtentStore(MemDisk(), MemoryIndex(), writable=True)
        self._image = Image(CHUNKS * CHUNK_BYTES)
        self._root = empty_root(self.store, TreeFormat(CHUNKS * CHUNK_BYTES, CHUNK_BYTES, FANOUT))
        self._number = 0

    def snapshot(self) -> Delivery:
        names = []
        for chunk in sorted(self._rng.sample(range(CHUNKS), 3)):
            self._number += 1
            data = (b"remote chunk %8d;" % self._number * (CHUNK_BYTES // 22 + 1))[:CHUNK_BYTES]
            names.append((chunk, self.store.put_chunk(data)))
            self._image.write(chunk * CHUNK_BYTES, data)
        self._root = update(self.store, self._root, names)
        self.store.flush()
        return Delivery(self.store, self._root, self._image.copy(), self._rng)


class Delivery:
    """One snapshot on its way. Whoever receives it may die at any moment; `rest` asks what it lacks."""

    def __init__(self, source: ExtentStore, root: bytes, image: Image, rng: Random) -> None:
        self._source = source
        shape = TreeReader(source, root).format
        self.snapshot, self.session, disk = (str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(3))
        self.image = image
        self.member = Member(disk, root, shape.size_bytes, shape.chunk_bytes)

    def allow(self, store: Store) -> None:
        """What an operator orders at the receiving site."""
        if SITE_ID not in store.hub.state.peers:
            store.hub.commit(PEER)
        store.grants.allow(self.session, SITE_ID, self.snapshot, GiB, 3600.0)

    def rest(self, ingest: StoreIngest, grant: Grant) -> list[Item]:
        """What the receiver says it lacks, children first."""
        lacks: list[Item] = []
        asked: list[bytes] = [self.member.root]
        done: set[bytes] = {ZERO_HASH}
        while asked:
            asked = [name for name in dict.fromkeys(asked) if name not in done]
            done.update(asked)
            here = ingest.has(grant, Scope.STORE, asked)
            missing = [name for name, present in zip(asked, here, strict=True) if not present]
            asked = []
            for name in missing:
                lacks.append(self._item(name))
                kind = self._source.kind(name)
                if kind != Kind.CHUNK:
                    asked += nodes.children(kind, self._source.read_node(name))
        return lacks[::-1]

    def _item(self, name: bytes) -> Item:
        codec, payload, size_bytes = self._source.raw(name)
        return Item(Kind(self._source.kind(name)), name, Codec(codec), size_bytes, payload)


class Reception:
    """A connection at the receiving site: its hold lasts until `close`."""

    def __init__(self, store: Store, delivery: Delivery) -> None:
        self._delivery = delivery
        self._ingest = StoreIngest(store.extents, store.grants)
        self._stack = ExitStack()
        self._stack.enter_context(self._ingest.receiving())
        self._grant = self._ingest.grant(delivery.session, SITE_ID, delivery.snapshot)
        self._rest: list[Item] | None = None

    @property
    def complete(self) -> bool:
        return self._rest == []

    def step(self, count: int) -> None:
        """Take some items."""
        if self._rest is None:
            self._rest = self._delivery.rest(self._ingest, self._grant)
            return
        some, self._rest = self._rest[:count], self._rest[count:]
        if some:
            self._ingest.put(self._grant, some)

    def publish(self) -> None:
        self._ingest.publish(self._grant, [self._delivery.member], {"from": "remote"})

    def close(self) -> None:
        self._stack.close()


def finish(store: Store, delivery: Delivery) -> None:
    """Resume after a crash, to the end."""
    if delivery.session not in store.hub.state.grants:
        delivery.allow(store)
    reception = Reception(store, delivery)
    try:
        while not reception.complete:
            reception.step(1000)
        reception.publish()
    except PeerRefused as exc:
        raise AssertionError(f"a delivery cannot be resumed: {exc.message}") from exc
    finally:
        reception.close()
