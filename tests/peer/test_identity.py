# SPDX-License-Identifier: Apache-2.0
"""Site identity and pinned mutual TLS, on real sockets."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest

from stargate.errors import AlreadyExists, InvalidArgument, PeerRefused
from stargate.peer.identity import (
    Identity,
    Peer,
    PeerSet,
    client_context,
    create_identity,
    fingerprint,
    identify,
    load_identity,
    server_context,
)


def meet(server: Identity, server_peers: PeerSet, client: Identity, client_peers: PeerSet) -> tuple[object, object]:
    """One handshake; what each side found: a site id, or the exception."""
    left, right = socket.socketpair()
    found: list[object] = [None]

    def serve() -> None:
        with left:
            left.settimeout(10)
            try:
                with server_context(server, server_peers).wrap_socket(left, server_side=True) as tls:
                    found[0] = identify(tls.getpeercert(binary_form=True), server_peers)[0]
                    tls.sendall(b"!")
            except (ssl.SSLError, OSError, PeerRefused) as exc:
                found[0] = exc

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with right:
            right.settimeout(10)
            with client_context(client, client_peers, "server").wrap_socket(right) as tls:
                seen: object = identify(tls.getpeercert(binary_form=True), client_peers)[0]
                if tls.recv(1) != b"!":
                    seen = EOFError()
    except (ssl.SSLError, OSError, PeerRefused) as exc:
        seen = exc
    thread.join()
    return found[0], seen


@pytest.fixture
def sites(tmp_path: Path) -> tuple[Identity, Identity]:
    return create_identity(tmp_path / "a", "site a"), create_identity(tmp_path / "b", "site b")


def test_it_makes_an_identity_that_can_be_loaded_and_is_private(tmp_path: Path) -> None:
    made = create_identity(tmp_path / "id", "x" * 200)
    assert load_identity(tmp_path / "id") == made
    assert stat.S_IMODE(made.key_path.stat().st_mode) == 0o600
    assert len(fingerprint(made.certificate_pem).split(":")) == 32


def test_it_never_replaces_a_key(tmp_path: Path) -> None:
    made = create_identity(tmp_path, "a")
    with pytest.raises(AlreadyExists):
        create_identity(tmp_path, "a")
    assert load_identity(tmp_path) == made


def test_it_lets_paired_sites_meet_and_names_them(sites: tuple[Identity, Identity]) -> None:
    server, client = sites
    found = meet(
        server,
        PeerSet([Peer("client", client.certificate_pem)]),
        client,
        PeerSet([Peer("server", server.certificate_pem)]),
    )
    assert found == ("client", "server")


def test_it_refuses_an_unpaired_client(sites: tuple[Identity, Identity]) -> None:
    server, client = sites
    found = meet(server, PeerSet(), client, PeerSet([Peer("server", server.certificate_pem)]))
    assert isinstance(found[0], ssl.SSLError)
    assert not isinstance(found[1], str)


def test_it_refuses_a_server_with_another_certificate(sites: tuple[Identity, Identity], tmp_path: Path) -> None:
    server, client = sites
    other = create_identity(tmp_path / "c", "site a")
    found = meet(
        server,
        PeerSet([Peer("client", client.certificate_pem)]),
        client,
        PeerSet([Peer("server", other.certificate_pem)]),
    )
    assert isinstance(found[1], ssl.SSLCertVerificationError)


def test_it_forgets_a_removed_peer_even_between_handshake_and_question(sites: tuple[Identity, Identity]) -> None:
    server, client = sites
    peers = PeerSet([Peer("client", client.certificate_pem)])
    context = server_context(server, peers)
    peers.replace([])
    left, right = socket.socketpair()
    mine = PeerSet([Peer("server", server.certificate_pem)])
    thread = threading.Thread(
        target=lambda: client_context(client, mine, "server").wrap_socket(right).close(), daemon=True
    )
    thread.start()
    with context.wrap_socket(left, server_side=True) as tls, pytest.raises(PeerRefused):
        identify(tls.getpeercert(binary_form=True), peers)
    thread.join()


@pytest.mark.parametrize(
    "text", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "é", "A" * 20000]
)
def test_it_refuses_what_is_no_certificate(text: str) -> None:
    with pytest.raises(InvalidArgument):
        PeerSet([Peer("x", text)])


def test_it_keeps_the_old_set_when_a_new_one_is_bad(sites: tuple[Identity, Identity]) -> None:
    peers = PeerSet([Peer("a", sites[0].certificate_pem)])
    with pytest.raises(InvalidArgument):
        peers.replace([Peer("b", sites[1].certificate_pem), Peer("c", sites[1].certificate_pem)])
    assert peers.pem_of("a") == sites[0].certificate_pem
