# SPDX-License-Identifier: Apache-2.0
"""What strangers and paired but hostile sites may try on the port (reliability.md A8, A9)."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import uuid
from pathlib import Path
from typing import Any

import lz4.block
import pytest
import zstandard

from stargate.errors import NoSpace, PeerError, PeerProtocol, PeerRefused
from stargate.extents import nodes
from stargate.extents.format import Codec, Kind, chunk_hash, node_hash
from stargate.peer import wire
from stargate.peer.client import PeerClient, Target
from stargate.peer.frame import HEADER, HEADER_BYTES, REPLIES, Type, frame, parse_header
from stargate.peer.identity import Peer, PeerSet, client_context, create_identity
from stargate.peer.wire import Begin, Begun, Have, HaveReply, Item, Member, Ping, Pong, Publish, Published, Put, PutAck
from stargate.units import CHUNK_BYTES, MiB
from tests.peer.sites import Site, granted, job, member, noise, order, same_bytes, to_site, version

SESSION = str(uuid.uuid4())
SNAPSHOT = str(uuid.uuid4())


def connect(a: Site, b: Site, session: str = SESSION) -> PeerClient:
    target = Target("127.0.0.1", b.port, b.site_id)
    return PeerClient.connect(target, to_site(a, b.site_id), a.peers, a.site_id, session)


def begin(members: tuple[Member, ...] = (), manifest: bytes = b"{}") -> Begin:
    return Begin(SESSION, SNAPSHOT, True, members, manifest)


@pytest.fixture
def client(two: tuple[Site, Site]) -> Any:
    """A connection of a paired site that has begun its granted session."""
    a, b = two
    b.book.allow(SESSION, a.site_id, SNAPSHOT)
    found = connect(a, b)
    found.request(begin(), Begun).result()
    yield found
    found.close()


def chunk(data: bytes) -> Item:
    return Item(Kind.CHUNK, chunk_hash(data), Codec.RAW, len(data), data)


def put(client: PeerClient, *items: Item) -> PutAck:
    return client.request(Put(items), PutAck).result()


def still_serves(a: Site, b: Site) -> bool:
    what = order([member(a.store, version(a.store, noise(random.Random(1), range(3)), 3))])
    return granted(a, b, what).run().state == "done"


# --- strangers


def test_it_ignores_garbage_and_silence(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    silent = [socket.create_connection(("127.0.0.1", b.port)) for _ in range(100)]
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", b.port)) as sock:
            sock.sendall(rng.randbytes(rng.randrange(1, 5000)))
    assert still_serves(a, b)
    for sock in silent:
        sock.close()


@pytest.mark.parametrize("name", ["a stranger", "the paired site's name"])
def test_it_says_not_one_byte_to_an_unpaired_certificate(two: tuple[Site, Site], tmp_path: Path, name: str) -> None:
    a, b = two
    stranger = create_identity(tmp_path / "stranger", "a" if name != "a stranger" else name)
    context = client_context(stranger, PeerSet([Peer("b", b.identity.certificate_pem)]), "b")
    with socket.create_connection(("127.0.0.1", b.port)) as raw, context.wrap_socket(raw) as tls:
        tls.settimeout(10)
        with contextlib.suppress(OSError):  # the refusal may be quicker than we are
            tls.sendall(wire.encode_frame(wire.Hello(1, 1, a.site_id, SESSION), 1))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            tls.recv(1)
    assert b.server.connections() == []
    assert still_serves(a, b)


def test_it_refuses_a_site_that_was_unpaired_on_its_next_request(two: tuple[Site, Site], client: PeerClient) -> None:
    _, b = two
    client.ping()
    b.peers.replace([])
    with pytest.raises(PeerRefused):
        client.ping()


def test_it_tells_the_operator_that_the_pairing_is_gone(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    b.peers.replace([])
    status = granted(a, b, order([member(a.store, version(a.store, noise(rng, [0]), 1))])).run()
    assert status.error is not None
    assert status.error["code"] == "peer_refused"
    assert "pair" in status.error["message"]


def test_it_refuses_another_paired_site_at_the_address(two: tuple[Site, Site], tmp_path: Path) -> None:
    a, b = two
    other = create_identity(tmp_path / "other", "other")
    a.peers.replace([Peer(str(uuid.uuid4()), b.identity.certificate_pem), Peer(b.site_id, other.certificate_pem)])
    with pytest.raises(PeerRefused):
        connect(a, b)


# --- frames


def tls(a: Site, b: Site) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", b.port), timeout=10)
    return client_context(a.identity, a.peers, b.site_id).wrap_socket(raw)


def answer(sock: ssl.SSLSocket) -> wire.Message:
    head = b""
    while len(head) < HEADER_BYTES:
        head += sock.recv(HEADER_BYTES - len(head)) or pytest.fail("closed without a word")
    header = parse_header(head, REPLIES)
    body = b""
    while len(body) < header.length:
        body += sock.recv(header.length - len(body))
    return wire.decode_payload(head, header, body)


HELLO = wire.Hello(1, 1, str(uuid.uuid4()), SESSION)
BAD_FRAMES = {
    "magic": HEADER.pack(b"HTTP", 1, Type.PING, 0, 1, 0) + bytes(4),
    "frame version": HEADER.pack(b"PSPW", 2, Type.PING, 0, 1, 0) + bytes(4),
    "flags": HEADER.pack(b"PSPW", 1, Type.PING, 1, 1, 0) + bytes(4),
    "unknown type": HEADER.pack(b"PSPW", 1, 99, 0, 1, 0) + bytes(4),
    "delete, which does not exist": HEADER.pack(b"PSPW", 1, 0, 0, 1, 0) + bytes(4),
    "a reply": wire.encode_frame(Pong(), 1),
    "4 GiB": HEADER.pack(b"PSPW", 1, Type.PUT, 0, 1, 2**32 - 1) + bytes(4),
    "checksum": wire.encode_frame(Ping(), 1)[:-1] + b"\xff",
    "short": frame(Type.HELLO, 1, [b"\1"]),
    "long": frame(Type.PING, 1, [b"\1"]),
    "put before hello": wire.encode_frame(Put([]), 1),
    "not itself": wire.encode_frame(HELLO, 1),
    "no common version": wire.encode_frame(wire.Hello(7, 9, HELLO.site_id, SESSION), 1),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_it_refuses_a_bad_frame_with_a_reason_and_goes_on(two: tuple[Site, Site], name: str) -> None:
    a, b = two
    with tls(a, b) as sock:
        sock.sendall(BAD_FRAMES[name])
        said = answer(sock)
        assert isinstance(said, wire.Error)
        assert said.code in ("peer_protocol", "peer_refused")
        assert sock.recv(1) == b""
    assert still_serves(a, b)


def test_it_refuses_requests_before_begin(two: tuple[Site, Site]) -> None:
    a, b = two
    for request in (Have(wire.Scope.STORE, [bytes(32)]), Put([chunk(b"x" * 4096)]), Publish(SNAPSHOT)):
        client = connect(a, b)
        with pytest.raises(PeerProtocol):
            client.request(request, Pong).result()
        client.close()
    assert b.ingest.items == []


def test_it_takes_one_session_per_connection(client: PeerClient) -> None:
    with pytest.raises(PeerProtocol):
        client.request(begin(), Begun).result()


DEEP = b'{"a":' + b"[" * 500 + b"]" * 500 + b"}"


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"{", b"\xff", b"[" * 1_000_000, DEEP, b'{"a":NaN}', b'{"a":"\\ud800"}']
)
def test_it_refuses_a_manifest_that_no_catalog_can_keep(two: tuple[Site, Site], manifest: bytes) -> None:
    a, b = two
    b.book.allow(SESSION, a.site_id, SNAPSHOT)
    client = connect(a, b)
    with pytest.raises(PeerProtocol):
        client.request(begin(manifest=manifest), Begun).result()
    client.close()


@pytest.mark.parametrize("change", [{"site_id": str(uuid.uuid4())}, {"snapshot": str(uuid.uuid4())}])
def test_it_refuses_a_session_granted_for_something_else(two: tuple[Site, Site], change: dict[str, str]) -> None:
    a, b = two
    b.book.allow(SESSION, **{"site_id": a.site_id, "snapshot": SNAPSHOT, **change})
    client = connect(a, b)
    with pytest.raises(PeerRefused):
        client.request(begin(), Begun).result()
    client.close()


# --- items


def refused(client: PeerClient, item: Item) -> None:
    with pytest.raises(PeerError):
        put(client, item)


def test_it_stores_nothing_under_a_name_that_is_not_its_hash(two: tuple[Site, Site], client: PeerClient) -> None:
    name = chunk_hash(b"a" * CHUNK_BYTES)
    refused(client, Item(Kind.CHUNK, name, Codec.RAW, CHUNK_BYTES, b"b" * CHUNK_BYTES))
    two[1].store.flush()
    assert two[1].store.has([name, chunk_hash(b"b" * CHUNK_BYTES)]) == [False, False]


def bomb(codec: Codec) -> bytes:
    data = bytes(64 * MiB)
    if codec is Codec.LZ4:
        return bytes(lz4.block.compress(data, store_size=False))
    return zstandard.ZstdCompressor().compress(data)


def test_it_does_nothing_behind_a_refused_request(two: tuple[Site, Site], client: PeerClient) -> None:
    """Requests are read ahead of the answers."""
    lie, honest = chunk(b"a" * CHUNK_BYTES)._replace(hash=bytes([7]) * 32), chunk(b"b" * CHUNK_BYTES)
    answers = [client.request(Put([item]), PutAck) for item in (lie, honest, honest)]
    with pytest.raises(PeerError):
        answers[0].result()
    client.close()
    two[1].store.flush()
    assert two[1].store.has([honest.hash]) == [False]


@pytest.mark.parametrize("codec", [Codec.LZ4, Codec.ZSTD])
def test_it_does_not_unpack_a_bomb(client: PeerClient, codec: Codec) -> None:
    payload = bomb(codec)[: CHUNK_BYTES - 1]
    refused(client, Item(Kind.CHUNK, b"b" * 32, codec, CHUNK_BYTES, payload))


def test_it_refuses_zstd_that_does_not_state_its_size(client: PeerClient) -> None:
    data = b"x" * CHUNK_BYTES
    payload = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    refused(client, Item(Kind.CHUNK, chunk_hash(data), Codec.ZSTD, CHUNK_BYTES, payload))


def test_it_refuses_a_node_before_its_children(two: tuple[Site, Site], client: PeerClient) -> None:
    data = b"c" * CHUNK_BYTES
    leaf = nodes.pack_node(0, 256, chunk_hash(data).ljust(256 * 32, b"\0"))
    item = Item(Kind.LEAF, node_hash(leaf), Codec.RAW, len(leaf), leaf)
    refused(client, item)
    again = connect(*two)
    again.request(begin(), Begun).result()
    assert put(again, chunk(data), item) == PutAck(2, 0)
    again.close()


def test_it_refuses_a_node_over_children_of_another_kind(client: PeerClient) -> None:
    data = b"c" * CHUNK_BYTES
    inner = nodes.pack_node(1, 256, chunk_hash(data).ljust(256 * 32, b"\0"))
    with pytest.raises(PeerError):
        put(client, chunk(data), Item(Kind.INNER, node_hash(inner), Codec.RAW, len(inner), inner))


def test_it_is_indifferent_to_duplicates(client: PeerClient) -> None:
    item = chunk(b"d" * CHUNK_BYTES)
    acks = [put(client, item, item), put(client, item)]
    assert sum(ack.stored + ack.duplicates for ack in acks) == 3
    client.ping()


def test_it_stops_at_the_quota(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    what = order([member(a.store, version(a.store, noise(rng, range(40)), 40))])
    status = granted(a, b, what, quota_bytes=10 * CHUNK_BYTES).run()
    assert status.error is not None
    assert (status.state, status.error["code"]) == ("failed", NoSpace.code)
    assert b.store.stats().stored_bytes < 12 * CHUNK_BYTES
    assert not b.book.published


def test_it_never_charges_for_what_is_here_already(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    root = version(a.store, noise(rng, range(40)), 40)
    assert granted(a, b, order([member(a.store, root)])).run().state == "done"
    assert granted(a, b, order([member(a.store, root)]), quota_bytes=0).run().state == "done"


# --- publishing


def publish(two: tuple[Site, Site], found: Member) -> Published:
    a, b = two
    b.book.allow(SESSION, a.site_id, SNAPSHOT)
    client = connect(a, b)
    try:
        client.request(begin((found,)), Begun).result()
        return client.request(Publish(SNAPSHOT), Published).result()
    finally:
        client.close()


def test_it_publishes_nothing_with_a_missing_subtree(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    with pytest.raises(PeerRefused):
        publish(two, member(a.store, version(a.store, noise(rng, range(3)), 3)))
    assert not b.book.published


def test_it_publishes_no_root_of_another_size(two: tuple[Site, Site], rng: random.Random) -> None:
    _a, b = two
    root = version(b.store, noise(rng, range(3)), 3)
    for change in ({"size_bytes": 4 * CHUNK_BYTES}, {"chunk_bytes": CHUNK_BYTES // 2}):
        fields = {"size_bytes": 3 * CHUNK_BYTES, "chunk_bytes": CHUNK_BYTES, **change}
        with pytest.raises(PeerProtocol):
            publish(two, Member(str(uuid.uuid4()), root, **fields))
    assert not b.book.published
    assert publish(two, member(b.store, root)).snapshot == SNAPSHOT


def test_it_publishes_no_chunk_or_node_as_a_root(two: tuple[Site, Site], rng: random.Random) -> None:
    _, b = two
    data = rng.randbytes(CHUNK_BYTES)
    version(b.store, {0: data}, 3)
    leaf = node_hash(nodes.pack_node(0, 256, chunk_hash(data).ljust(256 * 32, b"\0")))
    for name in (chunk_hash(data), leaf, bytes(32)):
        with pytest.raises(PeerError):
            publish(two, Member(str(uuid.uuid4()), name, 3 * CHUNK_BYTES, CHUNK_BYTES))
    assert not b.book.published


def test_it_sends_nothing_when_the_grant_is_missing(two: tuple[Site, Site], rng: random.Random) -> None:
    a, b = two
    root = version(a.store, noise(rng, range(3)), 3)
    status = job(a, b, order([member(a.store, root)])).run()
    assert status.error is not None
    assert (status.error["code"], b.ingest.questions, b.ingest.items) == ("peer_refused", [], [])
    assert not same_bytes_possible(b, root)


def same_bytes_possible(site: Site, root: bytes) -> bool:
    return site.store.has([root])[0] and same_bytes(site.store, site.store, root)


def test_it_asks_no_more_than_it_answers(client: PeerClient) -> None:
    names = [bytes([i % 256]) * 32 for i in range(1, 256)]
    assert client.request(Have(wire.Scope.STORE, names), HaveReply).result().present == [False] * len(names)
