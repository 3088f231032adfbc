# SPDX-License-Identifier: Apache-2.0
"""One contract for every transport: bare TCP, pinned TLS, in process."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stargate.clock import SystemClock
from stargate.errors import PeerRefused
from stargate.memtransport import Fault, MemoryNetwork, Spoil
from stargate.peer import server
from stargate.peer.identity import Peer, PeerSet, certificate_der, create_identity
from stargate.transport import Stream, TcpTransport, Transport
from stargate.units import MiB
from tests.peer.sim import VirtualClock
from tests.peer.sites import Site, granted, member, noise, order, version

Pair = tuple[Stream, Stream]
KINDS = ["tcp", "tls", "memory"]


def _tls(folder: Path) -> tuple[Transport, Transport]:
    a, b = create_identity(folder / "a", "a"), create_identity(folder / "b", "b")
    one = TcpTransport.mutual_tls(a, PeerSet([Peer("b", b.certificate_pem)]), site_id="b")
    return one, TcpTransport.mutual_tls(b, PeerSet([Peer("a", a.certificate_pem)]))


def _memory(_: Path) -> tuple[Transport, Transport]:
    network = MemoryNetwork(SystemClock(), random.Random(1))
    return network.transport(b"a"), network.transport(b"b")


@pytest.fixture(params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Transport, Transport]:
    """The transports of a connecting and of a listening site."""
    if request.param == "tcp":
        return TcpTransport(), TcpTransport()
    return {"tls": _tls, "memory": _memory}[request.param](tmp_path)


@pytest.fixture
def ends(both: tuple[Transport, Transport]) -> Iterator[Pair]:
    listener = both[1].listen("127.0.0.1", 0)
    found: list[Stream] = []

    def accept() -> None:
        found.append(listener.accept())
        found[0].handshake(30)

    thread = threading.Thread(target=accept)
    thread.start()
    near = both[0].connect("127.0.0.1", listener.port, 30)
    thread.join()
    yield near, found[0]
    near.close()
    found[0].close()
    listener.close()


def read(stream: Stream, count: int) -> bytes:
    """`count` bytes, or fewer at the end."""
    buffer = bytearray(count)
    done = 0
    while done < count and (got := stream.recv_into(memoryview(buffer)[done:])):
        done += got
    return bytes(buffer[:done])


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_it_moves_bytes_both_ways_in_order(ends: Pair, rng: random.Random) -> None:
    near, far = ends
    up, down = rng.randbytes(3 * MiB), rng.randbytes(100_000)
    sending = in_thread(lambda: near.sendall(up))
    assert read(far, len(up)) == up
    sending.join()
    far.sendall(memoryview(down))
    assert read(near, len(down)) == down
    assert near.wire_bytes() >= len(up) + len(down)
    near.close()
    assert near.wire_bytes() >= len(up) + len(down)


def test_it_ends_one_direction_and_receives_what_is_under_way(ends: Pair) -> None:
    near, far = ends
    near.sendall(b"last")
    near.end_sending()
    far.sendall(b"answer")
    assert read(near, 6) == b"answer"
    assert read(far, 100) == b"last"


def test_it_wakes_a_reader_when_it_is_aborted(ends: Pair) -> None:
    near, far = ends
    found: list[bytes] = []
    reading = in_thread(lambda: found.append(read(near, 1)))
    near.abort()
    reading.join()
    assert found == [b""]
    assert read(far, 1) == b""


def test_it_fails_to_send_when_nobody_reads_any_more(ends: Pair) -> None:
    near, far = ends
    far.close()
    with pytest.raises(OSError):
        near.sendall(bytes(100 * MiB))


def test_it_gives_up_after_a_silence(ends: Pair) -> None:
    near, far = ends
    near.settimeout(0.05)
    waiting = in_thread(lambda: read(far, 1))
    with pytest.raises(TimeoutError):
        near.recv_into(memoryview(bytearray(1)))
    near.close()
    waiting.join()


def test_it_refuses_a_port_in_use_and_one_where_nobody_listens(both: tuple[Transport, Transport]) -> None:
    listener = both[1].listen("127.0.0.1", 0)
    with pytest.raises(OSError):
        both[0].listen("127.0.0.1", listener.port)
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        both[0].connect("127.0.0.1", listener.port, 30)


def test_it_wakes_a_closed_listener(both: tuple[Transport, Transport]) -> None:
    listener = both[1].listen("127.0.0.1", 0)
    errors: list[OSError] = []

    def accept() -> None:
        try:
            listener.accept()
        except OSError as exc:
            errors.append(exc)

    accepting = in_thread(accept)
    listener.close()
    accepting.join()
    assert len(errors) == 1


def test_it_proves_certificates_both_ways_and_connects_to_paired_sites_only(tmp_path: Path) -> None:
    near, far = _tls(tmp_path)
    listener = far.listen("127.0.0.1", 0)
    stranger = TcpTransport.mutual_tls(create_identity(tmp_path / "c", "c"), PeerSet(), site_id="b")
    with pytest.raises(PeerRefused):
        stranger.connect("127.0.0.1", listener.port, 30)
    listener.accept().close()
    found: list[bytes | None] = []

    def accept() -> None:
        stream = listener.accept()
        assert stream.certificate() is None
        stream.handshake(30)
        found.append(stream.certificate())
        stream.close()

    accepting = in_thread(accept)
    stream = near.connect("127.0.0.1", listener.port, 30)
    accepting.join()
    pems = ((tmp_path / name / "site.crt").read_text() for name in ("a", "b"))
    assert [found[0], stream.certificate()] == [certificate_der(pem) for pem in pems]
    stream.close()
    listener.close()


@pytest.mark.parametrize("kind", ["stall", "vanish"])
def test_it_passes_time_only_when_both_ends_wait(kind: str) -> None:
    clock = VirtualClock()
    network = MemoryNetwork(clock, random.Random(1))
    listener = network.transport().listen("b", 1)
    network.spoil_next(Spoil(up=Fault("stall" if kind == "stall" else "vanish", 3)))
    near = network.transport().connect("b", 1, 30)
    far = listener.accept()
    near.sendall(b"12345")
    assert read(far, 3) == b"123"
    began = clock.now()
    near.close()
    far.settimeout(7)
    with pytest.raises(TimeoutError):
        far.recv_into(memoryview(bytearray(1)))
    assert clock.now() - began == 7


def test_it_closes_the_oldest_stranger_for_a_new_one(
    two: tuple[Site, Site], rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 3600.0)
    silent = [socket.create_connection(("127.0.0.1", b.port), 60) for _ in range(server.HANDSHAKES_MAX)]
    job = granted(a, b, order([member(a.store, version(a.store, noise(rng, [0]), 1))]))
    assert job.run().state == "done"
    assert silent[0].recv(1) == b""
    for sock in silent:
        sock.close()
