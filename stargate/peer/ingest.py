# SPDX-License-Identifier: Apache-2.0
"""The receiving side behind the port: what a session was granted, what it may add, and when a snapshot becomes visible.

Nothing here trusts the peer: presence is the store's own knowledge, every item is verified by the store under the hash
it claims, nodes are refused before their children, and a snapshot is published only over complete roots that commit to
the announced sizes. There is no way to delete, prune, shorten or promote anything, and none to read but what is shared.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from stargate.errors import DamagedData, NoSpace, PeerProtocol, PeerRefused
from stargate.extents.format import Kind, MissingChild
from stargate.peer.readback import ReadBack
from stargate.peer.shape import Shapes
from stargate.peer.store_iface import SyncStore
from stargate.peer.wire import Fetch, Item, Items, Member, Scope
from stargate.units import MiB

DELIVERED_MAX = 200_000
"""Nodes remembered per session for questions of scope SESSION: about 3 TiB of leaves, about 20 MB."""

FLUSH_BYTES = 64 * MiB
"""Received bytes after which the store is flushed, so that a resume after a crash starts there."""

DELIVERED_ALL_MAX = 4 * DELIVERED_MAX
"""In all sessions together; the one unused for longest forgets first."""

SESSIONS_MAX = 64
"""Sessions whose use is remembered; the one unused for longest is forgotten (it only resumes less cleverly)."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What this site allowed: one snapshot from one site, so many uncompressed bytes, questions about the store or not.
    `published`: the snapshot arrived completely before. `used_bytes` of the quota, as last remembered."""

    session: str
    site_id: str
    snapshot: str
    quota_bytes: int
    fingerprinting: bool = True
    published: bool = False
    used_bytes: int = 0


class GrantBook(Protocol):
    """The catalog's part: who may send what, and the act of making it visible."""

    def grant(self, session: str, site_id: str, snapshot: str) -> Grant:
        """The open grant of exactly these three, or of a snapshot already here; raises PeerRefused (unknown, expired,
        another's).
        """
        ...

    def room(self) -> None:
        """Raises NoSpace when the storage is too full to take anything."""
        ...

    def used(self, session: str, used_bytes: int) -> None:
        """Remember, durably, how much of its quota the session has used."""
        ...

    def publish(self, grant: Grant, members: Sequence[Member], manifest: dict[str, Any]) -> None:
        """Make the snapshot visible; durable when it returns. Idempotent. Raises PeerRefused when the grant ended
        meanwhile.
        """
        ...

    def shares(self, site_id: str, root: bytes) -> bool:
        """Whether a snapshot with this tree was sent here by the site, or to it from here."""
        ...


class Ingest(Protocol):
    """What the peer server needs. Calls of one connection come one after another, of several at the same time."""

    def grant(self, session: str, site_id: str, snapshot: str) -> Grant: ...

    def receiving(self) -> AbstractContextManager[None]: ...

    def has(self, grant: Grant, scope: Scope, names: Sequence[bytes]) -> list[bool]: ...

    def put(self, grant: Grant, items: Sequence[Item]) -> tuple[int, int]: ...

    def publish(self, grant: Grant, members: Sequence[Member], manifest: dict[str, Any]) -> None: ...

    def fetch(self, site_id: str, wanted: Fetch) -> Items: ...


@dataclass(slots=True)
class _Use:
    """What a session did so far; across a restart of the process at most `FLUSH_BYTES` of its quota are forgotten."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    new_bytes: int = 0
    unflushed_bytes: int = 0
    delivered: set[bytes] = field(default_factory=set)

    def deliver(self, node: bytes) -> None:
        with self.lock:
            if len(self.delivered) < DELIVERED_MAX:
                self.delivered.add(node)

    def flush_due(self, more_bytes: int) -> bool:
        """Whether so much came since the last flush that a crash should not lose more."""
        with self.lock:
            self.unflushed_bytes += more_bytes
            if self.unflushed_bytes < FLUSH_BYTES:
                return False
            self.unflushed_bytes = 0
            return True


class StoreIngest:
    """`Ingest` over a store and the catalog."""

    def __init__(self, store: SyncStore, book: GrantBook) -> None:
        self._store = store
        self._book = book
        self._shapes = Shapes(store)
        self._read_back = ReadBack(store, book.shares)
        self._lock = threading.Lock()
        self._uses: dict[str, _Use] = {}

    def grant(self, session: str, site_id: str, snapshot: str) -> Grant:
        found = self._book.grant(session, site_id, snapshot)
        self._store.flush()  # what an earlier connection of the session left pending becomes visible to its questions
        if (found.session, found.site_id, found.snapshot) != (session, site_id, snapshot):
            raise PeerRefused("this replication was granted for another snapshot or to another site; order it again")
        return found

    def receiving(self) -> AbstractContextManager[None]:
        """Around a connection: what it stores or is told to be here outlives every sweep meanwhile."""
        return self._store.hold()

    def has(self, grant: Grant, scope: Scope, names: Sequence[bytes]) -> list[bool]:
        """Raises PeerRefused for a question about the whole store where fingerprinting is off."""
        if scope is Scope.SESSION:
            use = self._use(grant.session)
            with use.lock:
                mine = [name in use.delivered for name in names]
            return [own and here for own, here in zip(mine, self._store.has(names), strict=True)]
        if not grant.fingerprinting:
            raise PeerRefused("fingerprinting is off for the receiving container; send without questions")
        return self._store.has(names)

    def put(self, grant: Grant, items: Sequence[Item]) -> tuple[int, int]:
        """Store items in order; returns (new, already here). Raises PeerProtocol for a lie, PeerRefused, NoSpace."""
        self._book.room()
        use = self._use(grant.session, grant.used_bytes)
        present = self._store.has([item.hash for item in items])
        stored = 0
        for item, here in zip(items, present, strict=True):
            if not here:
                self._charge(use, grant, item.usize)
                self._store_one(item)
                stored += 1
            if item.kind is not Kind.CHUNK:
                use.deliver(item.hash)
        if use.flush_due(sum(item.usize for item in items)):
            self._store.flush()
            self._book.used(grant.session, use.new_bytes)
        return stored, len(items) - stored

    def publish(self, grant: Grant, members: Sequence[Member], manifest: dict[str, Any]) -> None:
        """Raises PeerRefused unless every root is here and complete, PeerProtocol unless its tree is one and of the
        announced sizes.
        """
        self._store.flush()
        present = self._store.has([member.root for member in members])
        for member, here in zip(members, present, strict=True):
            if not here:
                raise PeerRefused(
                    "a disk of the snapshot has not arrived completely; start the replication again", member.disk
                )
            self._check_tree(member)
        self._book.publish(grant, members, manifest)
        with self._lock:
            self._uses.pop(grant.session, None)

    def fetch(self, site_id: str, wanted: Fetch) -> Items:
        """For the peer's repair. Raises PeerRefused for a tree that is not shared with it."""
        return self._read_back.fetch(site_id, wanted)

    def _check_tree(self, member: Member) -> None:
        try:
            shape = self._shapes.check(member.root)
        except DamagedData as exc:
            raise PeerRefused("a disk of the snapshot has no readable tree here", exc.message) from exc
        if (shape.size_bytes, shape.chunk_bytes) != (member.size_bytes, member.chunk_bytes):
            raise PeerProtocol("the other site announced a disk of another size than its root says", member.disk)

    def _store_one(self, item: Item) -> None:
        try:
            self._store.put_verified(item.kind, item.hash, item.codec, bytes(item.payload), item.usize)
        except MissingChild as exc:
            raise PeerRefused(
                "a part that the other site counted on is missing here; start the replication again"
            ) from exc

    def _charge(self, use: _Use, grant: Grant, usize: int) -> None:
        with use.lock:
            if use.new_bytes + usize > grant.quota_bytes:
                raise NoSpace(
                    "the replication sends more than was granted; order it again", f"{grant.quota_bytes} bytes"
                )
            use.new_bytes += usize

    def _use(self, session: str, used_bytes: int = 0) -> _Use:
        with self._lock:
            use = self._uses.pop(session, None) or _Use()
            use.new_bytes = max(use.new_bytes, used_bytes)
            self._uses[session] = use
            while len(self._uses) > SESSIONS_MAX:
                self._uses.pop(next(iter(self._uses)))
            self._forget_delivered(use)
            return use

    def _forget_delivered(self, used: _Use) -> None:
        count = sum(len(use.delivered) for use in self._uses.values())
        for use in self._uses.values():
            if count <= DELIVERED_ALL_MAX or use is used:
                return
            with use.lock:
                count -= len(use.delivered)
                use.delivered = set()
