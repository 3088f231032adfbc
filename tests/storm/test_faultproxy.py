# SPDX-License-Identifier: Apache-2.0
"""The fault proxy does to a link what it says, and nothing else."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Literal

import pytest

from tests.support.engine_site import wait_for
from tests.support.faultproxy import FaultProxy

PROOF_SECONDS = 0.3
"""How long a test looks for bytes that must not come."""


class Echo:
    """Sends back what it gets. `received`: all bytes so far, of all connections."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self.received = bytearray()
        self.sizes: list[int] = []
        self.resets = 0
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock = self._listener.accept()[0]
            except OSError:
                return
            self._connections.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            while data := sock.recv(65536):
                self.received += data
                self.sizes.append(len(data))
                sock.sendall(data)
        except ConnectionResetError:
            self.resets += 1
        except OSError:
            pass
        finally:
            sock.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(echo.address) as made:
        yield made


@pytest.fixture
def link(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(proxy.address, 20) as sock:
        yield sock


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, "the link ended"
        data += piece
    return data


def drain(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def silent(sock: socket.socket) -> bool:
    sock.settimeout(PROOF_SECONDS)
    try:
        return not sock.recv(1)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(20)


def test_it_forwards_all_bytes_and_counts_them(link: socket.socket, proxy: FaultProxy) -> None:
    data = random.Random(1).randbytes(300_000)
    threading.Thread(target=link.sendall, args=(data,), daemon=True).start()
    assert exactly(link, len(data)) == data
    wait_for(lambda: proxy.moved == {"up": len(data), "down": len(data)}, "the proxy to count what it just handed over")
    assert proxy.connections == 1


@pytest.mark.parametrize("after", [1, 1000, 70_001])
def test_it_cuts_one_connection_after_so_many_bytes(
    link: socket.socket, proxy: FaultProxy, echo: Echo, after: int
) -> None:
    proxy.cut_after(after)
    link.sendall(bytes(after + 5000))
    wait_for(lambda: len(echo.received) == after, "the bytes before the cut")
    drain(link)
    assert echo.resets == 0
    with socket.create_connection(proxy.address, 20) as second:
        second.sendall(b"again")
        assert exactly(second, 5) == b"again"


def test_it_resets_both_ends_after_so_many_bytes(link: socket.socket, proxy: FaultProxy, echo: Echo) -> None:
    proxy.reset_after(100)
    link.sendall(bytes(100))
    wait_for(lambda: len(echo.received) == 100, "the bytes before the reset")
    with pytest.raises(ConnectionResetError):
        drain(link)
    wait_for(lambda: echo.resets, "the reset at the target")
    assert len(echo.received) == 100


def test_it_stalls_a_link_without_telling_anybody(link: socket.socket, proxy: FaultProxy, echo: Echo) -> None:
    """Also what was being waited for when the stall began."""
    link.sendall(b"before")
    assert exactly(link, 6) == b"before"
    proxy.stall()
    link.sendall(b"during")
    assert silent(link)
    assert bytes(echo.received) == b"before"
    proxy.heal()
    assert exactly(link, 6) == b"during"


@pytest.mark.parametrize(("direction", "reaches"), [("up", b""), ("down", b"lost")])
def test_it_swallows_one_direction(
    link: socket.socket, proxy: FaultProxy, echo: Echo, direction: Literal["up", "down"], reaches: bytes
) -> None:
    proxy.swallow(direction)
    link.sendall(b"lost")
    assert silent(link)
    assert bytes(echo.received) == reaches
    proxy.heal()
    link.sendall(b"back")
    assert exactly(link, 4) == b"back"


def test_it_slows_a_link_to_the_rate_and_not_below_it(link: socket.socket, proxy: FaultProxy) -> None:
    proxy.slow(400_000)
    began = time.monotonic()
    link.sendall(bytes(100_000))
    exactly(link, 100_000)
    assert time.monotonic() - began >= 0.25


def test_it_lags(link: socket.socket, proxy: FaultProxy) -> None:
    proxy.lag(0.1)
    began = time.monotonic()
    link.sendall(b"x")
    exactly(link, 1)
    assert time.monotonic() - began >= 0.2


def test_it_slices_into_single_bytes(link: socket.socket, proxy: FaultProxy, echo: Echo) -> None:
    proxy.slice(1)
    link.sendall(b"0123456789")
    assert exactly(link, 10) == b"0123456789"
    assert bytes(echo.received) == b"0123456789"


def test_it_cuts_all_present_connections_at_once(link: socket.socket, proxy: FaultProxy) -> None:
    link.sendall(b"x")
    exactly(link, 1)
    proxy.cut_now()
    assert link.recv(1) == b""
