# SPDX-License-Identifier: Apache-2.0
"""STARTTLS with client certificates: who is let in, what is forgotten, what is refused in the clear."""

from __future__ import annotations

import random
import socket
import ssl
import struct
from pathlib import Path

import pytest
from nbd_kit import MemoryExport, Running, running, until
from tls_kit import FLAGS, STARTTLS, Site, answer, connect, go, hung_up, option, plain, put

from stargate.errors import InvalidArgument
from stargate.nbd import door, wire
from stargate.nbd.authority import Authority
from stargate.nbd.client import NbdClient
from stargate.nbd.link import NbdDisconnected, NbdError, NbdRefused
from stargate.nbd.tls import client_context
from stargate.units import MiB

# -- what works -------------------------------------------------------------------------------------------------------


def test_it_serves_a_client_with_a_certificate_and_shows_its_name(
    secured: Running, site: Site, disk: MemoryExport
) -> None:
    with connect(secured, site.client("kvm1")) as client:
        client.write(4096, b"over TLS", fua=True)
        client.flush()
        assert client.read(4096, 8) == b"over TLS"
        assert client.has_status
        (shown,) = secured.exports.open_now
        assert shown.client == "kvm1"
        assert shown.peer.endswith("(kvm1)")
    assert disk.content[4096:4104] == b"over TLS"


def test_it_carries_large_requests_many_at_once(secured: Running, site: Site, disk: MemoryExport) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    expected = bytearray(len(disk.content))
    with connect(secured, site.client(), depth=32) as client:
        cookies = []
        for _ in range(200):
            size = rng.choice([1, 512, 4096, 16384, 100_000, 3 * MiB])
            at = rng.randrange(len(expected) - size)
            data = rng.randbytes(size)
            expected[at : at + size] = data
            cookies.append(client.submit_write(at, data))
        for cookie in cookies:
            client.wait(cookie)
        reads = [(at, client.submit_read(at, 4 * MiB)) for at in range(0, len(expected), 4 * MiB)]
        for at, cookie in reads:
            assert client.wait(cookie) == expected[at : at + 4 * MiB]
    assert disk.content == expected


def test_it_gives_all_replies_to_a_client_that_reads_late(secured: Running, site: Site, disk: MemoryExport) -> None:
    disk.content[:] = random.Random(1).randbytes(len(disk.content))
    with connect(secured, site.client(), depth=100) as client:
        reads = [(at, client.submit_read(at, MiB)) for at in range(0, 48 * MiB, MiB)]  # far beyond the server's queue
        for at, cookie in reads:
            assert client.wait(cookie) == disk.content[at : at + MiB]


def test_loopback_and_unix_need_no_tls_but_loopback_offers_it(site: Site, disk: MemoryExport, tmp_path: Path) -> None:
    folder = site.client()
    with running(str(tmp_path / "nbd.sock"), disk, tls=site.policy) as served:
        with NbdClient.tcp("127.0.0.1", served.port, "disk") as client:
            client.write(0, b"plain")
        with connect(served, folder) as client:
            assert client.read(0, 5) == b"plain"
        with NbdClient.unix(served.path, "disk") as client:
            assert client.read(0, 5) == b"plain"


# -- who is not let in ------------------------------------------------------------------------------------------------


def test_a_routable_address_without_certificates_is_not_listened_at(disk: MemoryExport, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="TLS only"), running(str(tmp_path / "s"), disk, address="0.0.0.0"):
        pass


def test_without_tls_nothing_is_told(secured: Running) -> None:
    with pytest.raises(NbdRefused, match="takes TLS only"):
        NbdClient.tcp("127.0.0.1", secured.port, "disk")
    for number in (
        wire.OPT_LIST,
        wire.OPT_INFO,
        wire.OPT_GO,
        wire.OPT_STRUCTURED_REPLY,
        wire.OPT_LIST_META_CONTEXT,
        99,
    ):
        with plain(secured) as sock:
            sock.sendall(option(number, b"\0\0\0\4disk\0\0"))
            assert answer(sock) == wire.REP_ERR_TLS_REQD
            sock.sendall(option(wire.OPT_ABORT))
            assert answer(sock) == wire.REP_ACK
    with plain(secured) as sock:
        sock.sendall(option(wire.OPT_EXPORT_NAME, b"disk"))
        assert hung_up(sock)


def test_strangers_are_refused(secured: Running, site: Site, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "another site")
    stranger = site.client("stranger", other)
    with pytest.raises(NbdError):
        connect(secured, stranger)
    nobody = ssl.create_default_context(cadata=site.authority.authority_pem)  # no certificate at all
    with pytest.raises(NbdError):
        NbdClient.tcp("127.0.0.1", secured.port, "disk", tls=nobody)


def test_a_certificate_that_is_not_in_the_register_opens_nothing(secured: Running, site: Site, tmp_path: Path) -> None:
    """Whoever has a copy of the authority's key, but not the register, makes such."""
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "ca.pem").write_bytes((site.folder / "nbd" / "ca.pem").read_bytes())
    forged = site.client("forged", Authority(tmp_path / "copy", "test site"))
    with pytest.raises(NbdError):
        connect(secured, forged)


def test_a_client_refuses_another_server(secured: Running, site: Site, tmp_path: Path) -> None:
    issued = site.authority.issue("careful")
    folder = put(tmp_path / "careful", issued, Authority(tmp_path / "other", "another site").authority_pem)
    with pytest.raises(NbdDisconnected, match="certificate verify failed"):
        connect(secured, folder)


def test_a_client_that_wants_tls_takes_nothing_less(served: Running, site: Site) -> None:
    with pytest.raises(NbdRefused, match="does not speak TLS"):
        connect(served, site.client())


def test_a_revoked_certificate_opens_nothing_more(secured: Running, site: Site) -> None:
    folder = site.client("leaver")
    client = connect(secured, folder)
    client.write(0, b"still here")
    site.authority.revoke("leaver")
    gone = secured.server.disconnect(lambda info: info.client == "leaver", after_flush=False)
    assert gone.result(10) == 1
    with pytest.raises(NbdDisconnected):
        client.read(0, 1)
    with pytest.raises(NbdError):
        connect(secured, folder)


def test_a_revocation_between_handshake_and_export_holds(secured: Running, site: Site) -> None:
    context = client_context(site.client("late"))
    with plain(secured) as sock:
        sock.sendall(STARTTLS)
        assert answer(sock) == wire.REP_ACK
        with context.wrap_socket(sock, server_hostname="127.0.0.1") as tls:
            tls.sendall(option(wire.OPT_STRUCTURED_REPLY))
            assert answer(tls) == wire.REP_ACK
            site.authority.revoke("late")
            tls.sendall(go())
            assert hung_up(tls)
    assert not secured.exports.open_now


# -- attacks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("injected", [go(), option(wire.OPT_LIST), b"\0", b"\x16\x03\x01\x02\x00" * 50])
def test_a4_what_follows_starttls_in_the_clear_is_never_obeyed(secured: Running, site: Site, injected: bytes) -> None:
    """Somebody in between adds his words to a client's STARTTLS; the client then gets no session at all."""
    context = client_context(site.client())
    with plain(secured) as sock:
        sock.sendall(STARTTLS + injected)
        assert answer(sock) == wire.REP_ACK
        with pytest.raises(OSError):
            context.wrap_socket(sock, server_hostname="127.0.0.1").recv(1)
    assert not secured.exports.open_now


def test_a4_what_was_agreed_in_the_clear_is_forgotten(site: Site, disk: MemoryExport, tmp_path: Path) -> None:
    """Structured replies agreed before TLS (here on loopback, where that is allowed) do not hold behind it."""
    context = client_context(site.client())
    with running(str(tmp_path / "nbd.sock"), disk, tls=site.policy) as served, plain(served) as sock:
        sock.sendall(option(wire.OPT_STRUCTURED_REPLY))
        assert answer(sock) == wire.REP_ACK
        sock.sendall(STARTTLS)
        assert answer(sock) == wire.REP_ACK
        with context.wrap_socket(sock, server_hostname="127.0.0.1") as tls:
            query = b"\0\0\0\4disk" + struct.pack(">I", 0)
            tls.sendall(option(wire.OPT_LIST_META_CONTEXT, query))
            assert answer(tls) == wire.REP_ERR_INVALID
            tls.sendall(STARTTLS)
            assert answer(tls) == wire.REP_ERR_INVALID


def test_a_starttls_with_data_is_refused_and_the_line_stays_plain(secured: Running) -> None:
    with plain(secured) as sock:
        sock.sendall(option(wire.OPT_STARTTLS, b"x"))
        assert answer(sock) == wire.REP_ERR_INVALID
        sock.sendall(option(wire.OPT_LIST))
        assert answer(sock) == wire.REP_ERR_TLS_REQD


def test_older_tls_is_refused(secured: Running, site: Site) -> None:
    context = client_context(site.client())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(NbdDisconnected, match="version"):
        NbdClient.tcp("127.0.0.1", secured.port, "disk", tls=context)


def test_a2_silence_in_the_tls_handshake_has_a_deadline_and_a_bound(
    secured: Running, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HANDSHAKE_SECONDS", 0.5)
    socks = []
    for _ in range(door.HANDSHAKES + 20):
        sock = socket.create_connection(("127.0.0.1", secured.port), 15)
        sock.sendall(FLAGS + STARTTLS)
        socks.append(sock)
    for sock in socks:
        assert hung_up(sock)
        sock.close()


def test_random_bytes_in_the_tls_handshake_hurt_nobody(secured: Running) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(50):
        with plain(secured) as sock:
            sock.sendall(STARTTLS)
            assert answer(sock) == wire.REP_ACK
            record = b"\x16\x03\x01" + struct.pack(">H", rng.randrange(1 << 16)) if rng.random() < 0.7 else b""
            try:
                sock.sendall(record + rng.randbytes(rng.choice([1, 100, 20_000])))
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                continue  # it hung up, which is its right
            assert hung_up(sock)


def test_cut_sessions_leave_nothing_behind(secured: Running, site: Site) -> None:
    context = client_context(site.client())
    for _ in range(10):
        client = NbdClient.tcp("127.0.0.1", secured.port, "disk", tls=context)
        client.submit_write(0, bytes(MiB))
        client.abandon()
    until(lambda: not secured.exports.open_now)


def test_it_stops_with_encrypted_clients_connected(site: Site, disk: MemoryExport, tmp_path: Path) -> None:
    context = client_context(site.client())
    with running(str(tmp_path / "nbd.sock"), disk, tls=site.policy) as served:
        clients = [NbdClient.tcp("127.0.0.1", served.port, "disk", tls=context, depth=64) for _ in range(5)]
        for client in clients:
            for at in range(16):
                client.submit_read(at * MiB, MiB)  # nobody reads the replies
        served.server.stop()
        served.thread.join(10)
        assert not served.thread.is_alive()
    for client in clients:
        client.abandon()
