# SPDX-License-Identifier: Apache-2.0
"""Paired sites as sources of whole copies: FETCH over the pinned connection, only of trees that both sites have."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence

from stargate.errors import PeerRefused, PeerUnreachable
from stargate.peer.client import PeerClient, Target
from stargate.peer.items import Fetch, Item, Items, Place
from stargate.scrub.heal import Source
from stargate.store.grants import shared_roots
from stargate.store.hub import CatalogHub
from stargate.store.outgoing import Outgoing
from stargate.transport import TcpTransport

log = logging.getLogger(__name__)


class PeerSource:
    """One paired site. Connects with the first question, and anew after a refusal: that ends a connection."""

    def __init__(self, outgoing: Outgoing, hub: CatalogHub, target: Target) -> None:
        self._outgoing = outgoing
        self._hub = hub
        self._target = target
        self._client: PeerClient | None = None
        self.site_id = target.site_id

    def roots(self) -> Iterable[bytes]:
        with self._hub.lock:
            return shared_roots(self._hub.state, self.site_id)

    def fetch(self, root: bytes, places: Sequence[Place]) -> Sequence[Item] | None:
        """None: refused, as for a snapshot that only this site has still. Raises PeerUnreachable, PeerRefused (the
        connection itself is), PeerProtocol, Unavailable (this site is not paired yet).
        """
        if self._client is None:
            self._client = self._connect()
        try:
            return self._client.request(Fetch(root, places), Items).result().items
        except PeerRefused:
            self.close()
            return None

    def _connect(self) -> PeerClient:
        if not self._target.port:
            raise PeerUnreachable("nobody told the engine where the other site listens; test its connection")
        outgoing = self._outgoing
        transport = TcpTransport.mutual_tls(outgoing.identity(), outgoing.peers, site_id=self.site_id)
        return PeerClient.connect(self._target, transport, outgoing.peers, outgoing.site_id, str(uuid.uuid4()))

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def sources(outgoing: Outgoing, hub: CatalogHub) -> list[Source]:
    """Every paired site that shares a tree with this one."""
    with hub.lock:
        peers = [peer for peer in hub.state.peers.values() if shared_roots(hub.state, peer.site_id)]
    return [
        PeerSource(outgoing, hub, Target(*outgoing.heard_of.get(p.site_id, (p.address, p.port)), p.site_id))
        for p in peers
    ]
