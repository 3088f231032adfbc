# SPDX-License-Identifier: Apache-2.0
"""What a peer, or a stranger, can make a site hold or spend."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from stargate.extents import nodes
from stargate.extents.format import Codec, Kind, chunk_hash, node_hash
from stargate.peer import ingest
from stargate.peer.client import PeerClient, Target
from stargate.peer.conversation import AHEAD_BYTES
from stargate.peer.identity import Peer, PeerSet, ServerContexts, create_identity
from stargate.peer.ingest import Grant
from stargate.peer.server import AHEAD_ALL_BYTES, CONNECTIONS_PER_PEER_MAX
from stargate.peer.wire import Item, Scope
from stargate.units import CHUNK_BYTES, GiB
from tests.peer.sites import Site, make_site, to_site


def connect(a: Site, b: Site) -> PeerClient:
    target = Target("127.0.0.1", b.port, b.site_id)
    return PeerClient.connect(target, to_site(a, b.site_id), a.peers, a.site_id, str(uuid.uuid4()))


@pytest.fixture
def third(two: tuple[Site, Site], tmp_path: Path) -> Iterator[Site]:
    """A site that is paired with the second one, too."""
    a, b = two
    found = make_site(tmp_path / "third")
    found.peers.replace([Peer(b.site_id, b.identity.certificate_pem)])
    b.peers.replace([Peer(site.site_id, site.identity.certificate_pem) for site in (a, found)])
    yield found
    found.close()


def test_it_makes_no_context_for_each_connection(tmp_path: Path) -> None:
    ours, theirs = create_identity(tmp_path / "a", "a"), create_identity(tmp_path / "b", "b")
    peers = PeerSet()
    contexts = ServerContexts(ours, peers)
    strangers = contexts.get()
    assert contexts.get() is strangers
    peers.replace([Peer("b", theirs.certificate_pem)])
    paired = contexts.get()
    assert paired is not strangers
    assert (len(strangers.get_ca_certs()), paired.cert_store_stats()["x509"]) == (0, 1)
    peers.replace([])
    assert contexts.get().cert_store_stats()["x509"] == 0


def leaf(number: int) -> list[Item]:
    """A chunk and its leaf."""
    data = number.to_bytes(8, "big") * (CHUNK_BYTES // 8)
    body = nodes.pack_node(0, 256, chunk_hash(data).ljust(256 * 32, b"\0"))
    return [
        Item(Kind.CHUNK, chunk_hash(data), Codec.RAW, len(data), data),
        Item(Kind.LEAF, node_hash(body), Codec.RAW, len(body), body),
    ]


def test_it_remembers_delivered_nodes_of_all_sessions_within_one_bound(
    two: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "DELIVERED_ALL_MAX", 4)
    a, b = two
    leaves = [leaf(number) for number in (1, 2)]
    names = [items[1].hash for items in leaves]
    grants = [Grant(str(uuid.uuid4()), a.site_id, str(uuid.uuid4()), GiB) for _ in range(4)]
    for grant in grants:
        for items in leaves:
            b.ingest.put(grant, items)
    b.store.flush()
    known = [b.ingest.has(grant, Scope.SESSION, names) for grant in reversed(grants)]
    assert known[0] == known[1] == [True, True]
    assert known[3] == [False, False]


def test_it_reads_less_ahead_on_each_connection_the_more_there_are(two: tuple[Site, Site], third: Site) -> None:
    a, b = two
    assert b.server.ahead_share() == AHEAD_BYTES
    clients = [connect(site, b) for site in (a, third) for _ in range(CONNECTIONS_PER_PEER_MAX)]
    try:
        assert len(b.server.connections()) == len(clients)
        assert b.server.ahead_share() == AHEAD_ALL_BYTES // len(clients) < AHEAD_BYTES
    finally:
        for client in clients:
            client.close()
