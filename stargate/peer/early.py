# SPDX-License-Identifier: Apache-2.0
"""Chunks of a snapshot that is still being drained and folded, delivered under its session before its job knows a root.

Nothing of the protocol is special here: a connection that begins the session, delivers chunks and ends without
publishing is what a cut leaves behind, too. The job that follows asks, and finds them there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from stargate.clock import Clock
from stargate.errors import StargateError
from stargate.peer.client import PeerClient
from stargate.peer.codec import Packing
from stargate.peer.frame import HASHES_MAX
from stargate.peer.outbox import Cancelled, Counters, Gate, Outbox
from stargate.peer.store_iface import SyncStore
from stargate.peer.wire import Begin, Begun, Have, HaveReply, Scope

log = logging.getLogger(__name__)


class EarlySender:
    """One attempt. What it delivered shows in `counters` and `wire_bytes`, also after it failed: then the job does the
    rest, as it would have without.
    """

    def __init__(
        self, session: str, snapshot: str, store: SyncStore, *, clock: Clock, compress: bool, pack_threads: int
    ) -> None:
        self._session = session
        self._snapshot = snapshot
        self._store = store
        self._compress = compress
        self._pack_threads = pack_threads
        self._gate = Gate(clock, None)
        self.counters = Counters()
        self._lock = threading.Lock()
        self._client: PeerClient | None = None
        self._closed_wire_bytes = 0

    @property
    def wire_bytes(self) -> int:
        """Both ways, TLS included, as `SyncStatus` counts them."""
        with self._lock:
            return self._closed_wire_bytes + (self._client.link.wire_bytes() if self._client else 0)

    def cancel(self) -> None:
        self._gate.cancel()
        with self._lock:
            if self._client is not None:
                self._client.abort()

    def run(self, connect: Callable[[], PeerClient], batches: Iterable[Sequence[tuple[bytes, int]]]) -> None:
        """`batches`: names and sizes of stored chunks, as they become known; an empty one is a sign of life that is
        passed on. Never raises for what a peer, the link or the store does.
        """
        try:
            self._attempt(connect, batches)
        except Cancelled:
            return
        except StargateError as exc:
            log.info("sync %s: the rest waits for the fold: %s", self._session, exc.message)

    def _attempt(self, connect: Callable[[], PeerClient], batches: Iterable[Sequence[tuple[bytes, int]]]) -> None:
        client = connect()
        with self._lock:
            self._client = client
        try:
            begun = client.request(Begin(self._session, self._snapshot, True, (), b"{}"), Begun).result()
            if begun.fingerprinting and not begun.published:
                self._deliver(client, batches)
        finally:
            with self._lock:
                self._closed_wire_bytes += client.link.wire_bytes()
                self._client = None
            client.close()

    def _deliver(self, client: PeerClient, batches: Iterable[Sequence[tuple[bytes, int]]]) -> None:
        outbox = Outbox(client, self._gate, self.counters)
        with Packing(self._store, outbox.add, compress=self._compress, threads=self._pack_threads) as packing:
            for batch in batches:
                if not batch:
                    client.ping()
                for at in range(0, len(batch), HASHES_MAX):
                    self._missing(client, packing, batch[at : at + HASHES_MAX])
            packing.flush()
        outbox.flush()
        client.drain()

    def _missing(self, client: PeerClient, packing: Packing, chunks: Sequence[tuple[bytes, int]]) -> None:
        question = client.request(Have(Scope.STORE, [name for name, _ in chunks]), HaveReply)
        for (name, size_bytes), present in zip(chunks, question.result().present, strict=True):
            if not present:
                packing.chunk(name, size_bytes, 0)
