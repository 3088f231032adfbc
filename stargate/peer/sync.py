# SPDX-License-Identifier: Apache-2.0
"""Sync of a snapshot to a peer: full seed, incremental, resume and deduplication are this one job, run again after any
cut.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from stargate.clock import Clock
from stargate.errors import InvalidArgument, PeerProtocol, StargateError
from stargate.peer.client import PeerClient, Target
from stargate.peer.codec import Packing
from stargate.peer.frame import MANIFEST_BYTES_MAX, MEMBERS_MAX
from stargate.peer.identity import PeerSet
from stargate.peer.outbox import Cancelled, Counters, Gate, Outbox
from stargate.peer.sender import Sender
from stargate.peer.store_iface import SyncStore
from stargate.peer.walk import Version
from stargate.peer.wire import Begin, Begun, Member, Publish, Published
from stargate.transport import Transport

log = logging.getLogger(__name__)

Phase = Literal["connecting", "asking", "sending", "verifying", "published"]
State = Literal["running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be sent and how. `bases`: per disk uuid the root of a version that the peer certainly has (only needed
    with `fingerprinting` off, and to tell changed chunks from all chunks in the figures).
    """

    session: str
    snapshot: str
    members: Sequence[Member]
    manifest: Mapping[str, Any]
    bases: Mapping[str, bytes]
    fingerprinting: bool = True
    compress: bool = True


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """As `sync_status` of the control API. Bytes are guest bytes, except `wire_bytes`: what the transport moved both
    ways on the job's connections, TLS included. `chunks_total` are the chunks changed against the base (all that hold
    data, without one); `chunks_deduplicated` those of them that did not travel because the peer had them. `error` is
    {code, message}.
    """

    phase: Phase
    state: State
    done_bytes: int
    total_bytes: int
    wire_bytes: int
    chunks_total: int
    chunks_sent: int
    chunks_deduplicated: int
    error: dict[str, str] | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class SyncJob:
    """One replication. `run` may be called again after it failed: it asks anew and sends only what is still missing."""

    def __init__(
        self,
        order: Order,
        store: SyncStore,
        target: Target,
        transport: Transport,
        peers: PeerSet,
        *,
        own_site_id: str,
        clock: Clock,
        rate: Callable[[], int | None] | None = None,
        pack_threads: int = 0,
        earlier: Counters | None = None,
        earlier_wire_bytes: int = 0,
    ) -> None:
        """`pack_threads`: 0 packs in the thread of `run`. `earlier`: what an `EarlySender` did; its guest bytes count
        when the walk meets them.
        """
        self._order = order
        self._store = store
        self._target = target
        self._transport = transport
        self._peers = peers
        self._own_site_id = own_site_id
        self._gate = Gate(clock, rate)
        self._pack_threads = pack_threads
        self._lock = threading.Lock()
        self._client: PeerClient | None = None
        self._thread: threading.Thread | None = None
        self._counters = earlier or Counters()
        self._counters.total_bytes = sum(member.size_bytes for member in order.members)
        self._earlier_wire_bytes = earlier_wire_bytes
        self._phase: Phase = "connecting"
        self._state: State = "running"
        self._error: dict[str, str] | None = None

    def start(self) -> None:
        """Run in a thread of its own; while it runs, starting again does nothing."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._state, self._phase, self._error = "running", "connecting", None
            self._thread = threading.Thread(target=self.run, name=f"sync-{self._order.session}", daemon=True)
            self._thread.start()

    def wait(self, timeout_seconds: float | None = None) -> SyncStatus:
        """The status when the thread ended, or after the timeout (None = no limit)."""
        if self._thread is not None:
            self._thread.join(timeout_seconds)
        return self.status()

    def cancel(self) -> None:
        """Stop soon; what arrived stays at the peer until its grant ends."""
        self._gate.cancel()
        with self._lock:
            if self._client is not None:
                self._client.abort()

    def pause(self) -> None:
        """Send nothing until `resume`; the connection is kept alive."""
        self._gate.pause()

    def resume(self) -> None:
        self._gate.resume()

    def status(self) -> SyncStatus:
        with self._lock:
            wire_bytes = self._earlier_wire_bytes + (self._client.link.wire_bytes() if self._client else 0)
        found = self._counters
        spared = max(0, found.chunks_total - found.chunks_sent) if self._phase in ("verifying", "published") else 0
        return SyncStatus(
            self._phase, self._state, found.done_bytes, found.total_bytes, wire_bytes,
            found.chunks_total, found.chunks_sent, spared, self._error,
        )  # fmt: skip

    def run(self) -> SyncStatus:
        """One attempt, to the end; never raises for what a peer, the link or the store does."""
        self._state, self._phase, self._error = "running", "connecting", None
        self._counters.done_bytes = 0
        try:
            self._attempt()
            self._state = "done"
        except Cancelled:
            self._state = "cancelled"
        except StargateError as exc:
            self._fail(exc.code, exc.message)
        except Exception as exc:
            log.exception("sync %s failed", self._order.session)
            self._fail(StargateError.code, f"the engine failed internally ({type(exc).__name__}); see its log")
        return self.status()

    def _fail(self, code: str, message: str) -> None:
        if self._gate.cancelled.is_set():
            self._state = "cancelled"
            return
        self._error = {"code": code, "message": message}
        self._state = "failed"

    def _attempt(self) -> None:
        versions = self._versions()
        if self._gate.cancelled.is_set():
            raise Cancelled
        client = PeerClient.connect(self._target, self._transport, self._peers, self._own_site_id, self._order.session)
        with self._lock:
            self._client = client
        try:
            self._converse(client, versions)
        finally:
            with self._lock:
                self._earlier_wire_bytes += client.link.wire_bytes()
                self._client = None
            client.close()

    def _versions(self) -> list[Version]:
        bases = self._order.bases
        versions = [Version(self._store, member.root, bases.get(member.disk)) for member in self._order.members]
        self._counters.chunks_total = sum(version.changed_chunks() for version in versions)
        return versions

    def _converse(self, client: PeerClient, versions: list[Version]) -> None:
        self._phase = "asking"
        order = self._order
        manifest = json.dumps(order.manifest, ensure_ascii=False, separators=(",", ":")).encode()
        if len(manifest) > MANIFEST_BYTES_MAX or len(order.members) > MEMBERS_MAX:
            raise InvalidArgument(
                f"a snapshot of more than {MEMBERS_MAX} disks or {MANIFEST_BYTES_MAX} bytes of manifest cannot be "
                "replicated; split the protection domain"
            )
        begin = Begin(order.session, order.snapshot, order.fingerprinting, tuple(order.members), manifest)
        begun = client.request(begin, Begun).result()
        if not begun.published:
            self._send(client, versions, order.fingerprinting and begun.fingerprinting)
            self._phase = "verifying"
            published = client.request(Publish(order.snapshot), Published).result()
            if published.snapshot != order.snapshot:
                raise PeerProtocol("the other site published another snapshot than was sent")
        self._counters.done_bytes = self._counters.total_bytes
        self._phase = "published"

    def _send(self, client: PeerClient, versions: list[Version], fingerprinting: bool) -> None:
        outbox = Outbox(client, self._gate, self._counters)
        with Packing(self._store, outbox.add, compress=self._order.compress, threads=self._pack_threads) as packing:
            sender = Sender(client, packing, self._counters, fingerprinting=fingerprinting)
            sender.learn(versions)
            self._phase = "sending"
            for version in versions:
                sender.send(version)
            packing.flush()
        outbox.flush()
        client.drain()
