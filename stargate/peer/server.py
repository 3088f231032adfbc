# SPDX-License-Identifier: Apache-2.0
"""The answering end on port 2009: a thread per connection, few connections, nothing read from strangers but their
handshake.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from stargate.clock import Clock
from stargate.errors import StargateError
from stargate.peer.conversation import Conversation
from stargate.peer.frame import REQUESTS
from stargate.peer.identity import PeerSet, identify
from stargate.peer.ingest import Ingest
from stargate.peer.link import Link
from stargate.transport import Listener, Stream
from stargate.units import MiB

log = logging.getLogger(__name__)
S = TypeVar("S")

HANDSHAKES_MAX = 32
"""Connections that have not proven who they are. One more closes the oldest of them, so that silence cannot keep peers
out.
"""

HANDSHAKE_SECONDS = 10.0
CONNECTIONS_MAX = 32
CONNECTIONS_PER_PEER_MAX = 4

AHEAD_ALL_BYTES = 40 * MiB
"""Read ahead on all connections together: each may have an equal part."""


class PeerServer:
    """Serves `ingest` to the paired sites. The server closes `listeners`."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        peers: PeerSet,
        ingest: Ingest,
        *,
        site_id: str,
        clock: Clock,
        ahead_bytes: int = 0,
    ) -> None:
        """`ahead_bytes`: of one connection at most; see `Conversation`."""
        self._listeners = list(listeners)
        self._peers = peers
        self._ingest = ingest
        self._site_id = site_id
        self._clock = clock
        self._ahead_bytes = ahead_bytes
        self._lock = threading.Lock()
        self._handshakes: dict[int, Stream] = {}
        self._links: dict[Link, str] = {}
        self._threads: set[threading.Thread] = set()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Accept in threads of its own."""
        for listener in self._listeners:
            self._spawn(self._accept, listener, "peer-accept")

    def stop(self) -> None:
        """Close everything and wait for the threads; what was being received stays resumable."""
        self._stopping.set()
        for listener in self._listeners:
            listener.close()
        with self._lock:
            for stream in self._handshakes.values():
                stream.abort()
            for link in self._links:
                link.abort()
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def connections(self) -> list[str]:
        """Site ids of the connected peers, one entry per connection."""
        with self._lock:
            return sorted(self._links.values())

    def _spawn(self, target: Callable[[S], None], subject: S, name: str) -> None:
        thread = threading.Thread(target=self._run, args=(target, subject), name=name, daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _run(self, target: Callable[[S], None], subject: S) -> None:
        try:
            target(subject)
        except Exception:
            log.exception("peer thread failed")
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _accept(self, listener: Listener) -> None:
        while not self._stopping.is_set():
            try:
                stream = listener.accept()
            except OSError:
                if self._stopping.wait(0.1):  # closed by stop(), or out of descriptors for a moment
                    return
                continue
            self._admit(stream)

    def _admit(self, stream: Stream) -> None:
        with self._lock:
            if len(self._handshakes) >= HANDSHAKES_MAX:
                self._handshakes.pop(next(iter(self._handshakes))).abort()
            self._handshakes[id(stream)] = stream
        self._spawn(self._serve, stream, "peer-connection")

    def _serve(self, stream: Stream) -> None:
        try:
            stream.handshake(HANDSHAKE_SECONDS)
            site_id, der = identify(stream.certificate(), self._peers)
        except (OSError, StargateError) as exc:
            log.info("connection from %s refused: %s", stream.address, exc)
            stream.close()
            return
        finally:
            with self._lock:
                self._handshakes.pop(id(stream), None)
        link = Link(stream, REQUESTS)
        if not self._enter(link, site_id):
            link.close()
            return
        try:
            Conversation(
                link, self._ingest, self._peers,
                own_site_id=self._site_id, site_id=site_id, der=der, clock=self._clock, ahead_bytes=self.ahead_share,
            ).run()  # fmt: skip
        finally:
            with self._lock:
                self._links.pop(link, None)
            link.close()

    def ahead_share(self) -> int:
        """Bytes that each connection may have read ahead now."""
        return min(self._ahead_bytes, AHEAD_ALL_BYTES // max(1, len(self._links)))

    def _enter(self, link: Link, site_id: str) -> bool:
        with self._lock:
            theirs = sum(1 for other in self._links.values() if other == site_id)
            if self._stopping.is_set() or len(self._links) >= CONNECTIONS_MAX or theirs >= CONNECTIONS_PER_PEER_MAX:
                log.warning("peer %s has too many connections", site_id)
                return False
            self._links[link] = site_id
            return True
