# SPDX-License-Identifier: Apache-2.0
"""The answering end on port 2009: a thread per connection, few connections, nothing read from strangers but their
handshake.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Sequence

from stargate.errors import StargateError
from stargate.peer.conversation import Conversation
from stargate.peer.frame import REQUESTS
from stargate.peer.identity import Identity, PeerSet, identify, server_context
from stargate.peer.ingest import Ingest
from stargate.peer.link import Link, tune

log = logging.getLogger(__name__)

HANDSHAKES_MAX = 32
"""Connections that have not proven who they are. One more closes the oldest of them, so that silence cannot keep peers
out.
"""

HANDSHAKE_SECONDS = 10.0
CONNECTIONS_MAX = 32
CONNECTIONS_PER_PEER_MAX = 4


class PeerServer:
    """Serves `ingest` to the paired sites. `listeners` are bound and listening; the server closes them."""

    def __init__(
        self, listeners: Sequence[socket.socket], identity: Identity, peers: PeerSet, ingest: Ingest, *, site_id: str
    ) -> None:
        self._listeners = list(listeners)
        self._identity = identity
        self._peers = peers
        self._ingest = ingest
        self._site_id = site_id
        self._lock = threading.Lock()
        self._handshakes: dict[int, socket.socket] = {}
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
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for sock in self._handshakes.values():
                _shut(sock)
            for link in self._links:
                link.abort()
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def connections(self) -> list[str]:
        """Site ids of the connected peers, one entry per connection."""
        with self._lock:
            return sorted(self._links.values())

    def _spawn(self, target: object, sock: socket.socket, name: str) -> None:
        thread = threading.Thread(target=self._run, args=(target, sock), name=name, daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _run(self, target: object, sock: socket.socket) -> None:
        try:
            target(sock)  # type: ignore[operator]
        except Exception:
            log.exception("peer thread failed")
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = listener.accept()
            except OSError:
                if self._stopping.wait(0.1):  # closed by stop(), or out of descriptors for a moment
                    return
                continue
            self._admit(sock)

    def _admit(self, sock: socket.socket) -> None:
        with self._lock:
            if len(self._handshakes) >= HANDSHAKES_MAX:
                _shut(self._handshakes.pop(next(iter(self._handshakes))))
            self._handshakes[id(sock)] = sock
        self._spawn(self._serve, sock, "peer-connection")

    def _serve(self, sock: socket.socket) -> None:
        try:
            connection, site_id, der = self._prove(sock)
        except (OSError, StargateError) as exc:
            log.info("peer connection refused: %s", exc)
            return
        finally:
            with self._lock:
                self._handshakes.pop(id(sock), None)
        link = Link(connection, REQUESTS)
        if not self._enter(link, site_id):
            link.close()
            return
        try:
            Conversation(link, self._ingest, self._peers, own_site_id=self._site_id, site_id=site_id, der=der).run()
        finally:
            with self._lock:
                self._links.pop(link, None)
            link.close()

    def _prove(self, sock: socket.socket) -> tuple[ssl.SSLSocket, str, bytes]:
        """TLS and pin within HANDSHAKE_SECONDS; the socket is closed when it fails."""
        try:
            tune(sock)
            sock.settimeout(HANDSHAKE_SECONDS)
            context = server_context(self._identity, self._peers)
            connection = context.wrap_socket(sock, server_side=True)
        except OSError:
            sock.close()
            raise
        try:
            site_id, der = identify(connection, self._peers)
            tune(connection)
        except (OSError, StargateError):
            connection.close()
            raise
        return connection, site_id, der

    def _enter(self, link: Link, site_id: str) -> bool:
        with self._lock:
            theirs = sum(1 for other in self._links.values() if other == site_id)
            if self._stopping.is_set() or len(self._links) >= CONNECTIONS_MAX or theirs >= CONNECTIONS_PER_PEER_MAX:
                log.warning("peer %s has too many connections", site_id)
                return False
            self._links[link] = site_id
            return True


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
