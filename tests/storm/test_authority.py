# SPDX-License-Identifier: Apache-2.0
"""A front whose NBD authority is damaged starts, serves this machine, and says what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from stargate.errors import Unavailable
from stargate.units import MiB
from tests.support.engine_site import EngineSite


def test_a_damaged_authority_keeps_only_the_network_out(folder: Path) -> None:
    site = EngineSite(folder, tcp=True)
    try:
        site.start()
        disk = site.disk(MiB)
        with site.open(disk) as client:
            client.write(0, b"word")
            client.flush()
        path = folder / "identity" / "nbd" / "ca.pem"
        whole = path.read_bytes()
        path.write_bytes(bytes(len(whole)))
        site.restart()
        assert site.content(disk)[:4] == b"word"
        assert "Put the file back" in site.engine.status()["nbd_problem"]
        with pytest.raises(Unavailable, match="Put the file back"):
            site.engine.front.call("nbd_client_list")
        with pytest.raises(ConnectionRefusedError), socket.socket() as sock:
            sock.connect((site.address, site.nbd_port))
        path.write_bytes(whole)
        site.restart()
        assert site.engine.status()["nbd_problem"] == ""
        with socket.socket() as sock:
            sock.connect((site.address, site.nbd_port))
        assert site.content(disk)[:4] == b"word"
    finally:
        site.stop()
