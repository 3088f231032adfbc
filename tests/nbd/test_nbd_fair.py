# SPDX-License-Identifier: Apache-2.0
"""One export that floods the server does not starve another. The loop is turned by hand, so nothing depends on time."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbd_kit import MemoryExport, MemoryExports

from stargate.nbd import stage, wire
from stargate.nbd.fair import SERVED, SHARE
from stargate.nbd.server import NbdServer
from stargate.units import MiB

FLOODERS = 60
GO_BYTES = 18 + 20 + 12 + 20 + 14 + 20


class HandTurned:
    """A server whose turns are the test's."""

    def __init__(self, path: str, *exports: MemoryExport) -> None:
        self.path = path
        self.exports = MemoryExports(*exports)
        self.server = NbdServer(self.exports, spin=False)
        self.server.listen_unix(path)

    def turn(self) -> None:
        self.server.call_soon(lambda: None)  # so that it never waits
        self.server._turn()

    def connect(self, name: bytes) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(self.path)
        sock.sendall(b"\0\0\0\3IHAVEOPT" + struct.pack(">III", wire.OPT_GO, 6 + len(name), len(name)) + name + b"\0\0")
        sock.setblocking(False)
        got = 0
        while got < GO_BYTES:
            self.turn()
            try:
                got += len(sock.recv(GO_BYTES - got))
            except BlockingIOError:
                continue
        return sock

    def served(self, name: str) -> int:
        """Requests of an export's connections so far."""
        return sum(c.reads + c.writes + c.errors for c in self.server.connections() if c.export_name == name)


@pytest.fixture
def turned(tmp_path: Path) -> Iterator[HandTurned]:
    turned = HandTurned(str(tmp_path / "nbd.sock"), MemoryExport("a", MiB), MemoryExport("b", MiB))
    yield turned
    turned.server.stop()
    turned.server.run()
    turned.exports.end()


def request(command: int, length: int, offset: int = 0) -> bytes:
    return wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, command, bytes(8), offset, length)


def flood(turned: HandTurned, command: int, length: int) -> list[socket.socket]:
    """Export `a` over many connections, each with more requests than a turn takes."""
    socks = [turned.connect(b"a") for _ in range(FLOODERS)]
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        sock.send(request(command, length) * 3000)
    return socks


@pytest.mark.parametrize(
    ("command", "length"),
    [(wire.CMD_READ, 512), (wire.CMD_READ, MiB), (wire.CMD_WRITE_ZEROES, 4096), (wire.CMD_TRIM, MiB), (99, 0)],
)
def test_a_neighbour_is_served_in_each_turn(turned: HandTurned, command: int, length: int) -> None:
    """However many connections flood `a`, a turn does a bounded piece of their work and all that `b` asks."""
    quiet = turned.connect(b"b")
    flooders = flood(turned, command, length)
    for _ in range(3):
        turned.turn()
    for _ in range(20):
        before, mine = turned.served("a"), turned.served("b")
        quiet.send(request(wire.CMD_READ, 1))
        turned.turn()
        assert turned.served("b") == mine + 1
        assert turned.served("a") - before <= SHARE * stage.MAX_REQUESTS
        assert quiet.recv(100)
    for sock in [*flooders, quiet]:
        sock.close()


def test_all_flooders_of_one_export_get_their_turn(turned: HandTurned) -> None:
    flooders = flood(turned, wire.CMD_READ, 1)
    for _ in range(-(-FLOODERS // SERVED) + 1):
        turned.turn()
    assert all(conn.reads for conn in turned.server.connections())
    for sock in flooders:
        sock.close()


def test_a_turn_reads_a_bounded_number_of_bytes(turned: HandTurned) -> None:
    (flooder, *others) = flood(turned, wire.CMD_READ, MiB)
    for sock in others:
        sock.close()
    for _ in range(FLOODERS):
        turned.turn()
    (conn,) = turned.server.connections()
    flooder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    before = conn.read_bytes
    turned.turn()
    assert conn.read_bytes - before <= stage.MAX_READ_BYTES + MiB
    flooder.close()


def test_knocking_does_not_stop_those_inside(turned: HandTurned) -> None:
    """Many handshakes at once take a few per turn; a client inside is served in each of these turns."""
    quiet = turned.connect(b"b")
    knocking = []
    for _ in range(90):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(turned.path)
        sock.sendall(b"\0\0\0\3" + b"IHAVEOPT" + struct.pack(">II", wire.OPT_LIST, 0))
        knocking.append(sock)
    for _ in range(10):
        mine = turned.served("b")
        quiet.send(request(wire.CMD_READ, 1))
        turned.turn()
        assert turned.served("b") == mine + 1
    for sock in [*knocking, quiet]:
        sock.close()
