# SPDX-License-Identifier: Apache-2.0
"""`python -m stargate nbd-client` against a real engine that listens on all addresses."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from stargate.nbd.client import NbdClient
from stargate.nbd.link import NbdDisconnected, NbdError, NbdRefused
from stargate.nbd.tls import client_context
from stargate.units import MiB
from tests.conformance.kit import start
from tests.support.engine_site import EngineSite

pytestmark = pytest.mark.workflow


def tool(site: EngineSite, *words: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "stargate", "nbd-client", "--data", str(site.folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_an_engine_on_all_addresses_serves_clients_with_its_certificates_only(tmp_path: Path) -> None:
    site = EngineSite(tmp_path / "s", address="0.0.0.0", tcp=True)
    try:
        start(site)
        assert site.engine.status()["nbd_tls"]
        site.disk(MiB, "disk")
        folder = tmp_path / "kvm1"
        tool(site, "issue", "kvm1", "--out", str(folder))
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
        assert "good" in tool(site, "list")
        with pytest.raises(NbdRefused, match="TLS only"):
            NbdClient.tcp("127.0.0.1", site.nbd_port, "disk")
        context = client_context(folder)
        client = NbdClient.tcp("127.0.0.1", site.nbd_port, "disk", tls=context)
        client.write(0, b"over TLS")
        (vdisk,) = site.engine.vdisks()
        assert vdisk["connections"][0]["peer"].endswith("(kvm1)")
        assert "already_exists" in tool(site, "issue", "kvm1", "--out", str(tmp_path / "twice"), status=1)
        assert not (tmp_path / "twice").exists()
        assert "1 connections" in tool(site, "revoke", "kvm1")
        with pytest.raises(NbdDisconnected):
            client.read(0, 1)
        with pytest.raises(NbdError):
            NbdClient.tcp("127.0.0.1", site.nbd_port, "disk", tls=context)
        site.restart()
        with pytest.raises(NbdError):
            NbdClient.tcp("127.0.0.1", site.nbd_port, "disk", tls=context)
    finally:
        site.stop()


@pytest.mark.parametrize("secured", [False, True], ids=["unix", "tls"])
def test_a_client_with_reconnect_sees_no_error_over_restarts(tmp_path: Path, secured: bool) -> None:
    """kill -9 of the engine with requests in flight, several times: each is answered, all bytes are there."""
    site = EngineSite(tmp_path / "s", tcp=secured)
    try:
        start(site)
        site.disk(64 * MiB, "disk")
        if secured:
            folder = tmp_path / "kvm1"
            tool(site, "issue", "kvm1", "--out", str(folder))
            context = client_context(folder)
            client = NbdClient.tcp(site.address, site.nbd_port, "disk", tls=context, depth=64, reconnect=60.0)
        else:
            client = NbdClient.unix(site.engine.nbd_socket, "disk", depth=64, reconnect=60.0)
        data = [uuid.UUID(int=at).bytes * 4096 for at in range(300)]
        cookies = []
        for at, block in enumerate(data):
            cookies.append(client.submit_write(at * 65536, block, fua=at % 7 == 0))
            if at % 100 == 50:
                site.restart()
        for cookie in cookies:
            client.wait(cookie)
        client.flush()
        site.restart()
        for at, block in enumerate(data):
            assert client.read(at * 65536, 65536) == block, at
        client.close()
    finally:
        site.stop()


def test_it_stops_within_ten_seconds_while_clients_are_connected(tmp_path: Path) -> None:
    """A7: idle ones, ones that do not read their replies, ones in the middle of a payload, ones that say nothing."""
    import socket

    from stargate.nbd import wire

    site = EngineSite(tmp_path / "s")
    try:
        start(site)
        site.disk(64 * MiB, "disk")
        clients = [site.open("disk") for _ in range(30)]
        for number, client in enumerate(clients[:20]):
            if number % 2:
                for at in range(12):
                    client.submit_read(at * MiB, MiB)
            else:
                header = wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, wire.CMD_WRITE, bytes(8), 0, 32 * MiB)
                client._link.send(header + bytes(100_000))
        silent = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(50)]
        for sock in silent:
            sock.connect(site.engine.nbd_socket)
        assert site.front is not None
        site.front.terminate()
        assert site.front.wait(10) == 0  # raises when it takes longer
        site.front = None
        for sock in silent:
            sock.close()
        for client in clients:
            client.abandon()
    finally:
        site.stop()
