# SPDX-License-Identifier: Apache-2.0
"""Hostile clients on a real socket. After each of them an honest client must be served."""

from __future__ import annotations

import contextlib
import random
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbd_kit import MemoryExport, Running, running, until

from stargate.nbd import door as nbd_door
from stargate.nbd import wire
from stargate.nbd.client import NbdClient
from stargate.units import MiB

FLAGS = b"\0\0\0\3"


@pytest.fixture(autouse=True)
def honest(served: Running) -> Iterator[None]:
    """After each test: an honest client is served, and no connection of the attacker's is left."""
    yield
    with NbdClient.unix(served.path, "disk", timeout=15) as client:
        client.write(0, b"honest")
        assert client.read(0, 6) == b"honest"
    until(lambda: not served.exports.open_now)


def attack(served: Running) -> socket.socket:
    """A raw connection that has read the greeting."""
    sock = socket.create_connection(("127.0.0.1", served.port), 15)
    assert exactly(sock, 18) == b"NBDMAGICIHAVEOPT\0\3"
    return sock


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def option(number: int, data: bytes = b"") -> bytes:
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def go(name: bytes) -> bytes:
    return option(7, struct.pack(">I", len(name)) + name + b"\0\0")


def request(command: int, offset: int, length: int, *, flags: int = 0, cookie: bytes = b"attacker") -> bytes:
    return wire.REQUEST.pack(wire.REQUEST_MAGIC, flags, command, cookie, offset, length)


def transmission(served: Running) -> socket.socket:
    sock = attack(served)
    sock.sendall(FLAGS + go(b"disk"))
    exactly(sock, 20 + 12 + 20 + 14 + 20)
    return sock


def closed(sock: socket.socket) -> bool:
    """The server hung up (what it still had to say is read away)."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("name", [b"x" * 4096, b"disk\0", b"../disk", b"/etc/passwd", b"", b"\xff" * 300])
def test_a1_strange_names_are_refused_and_the_connection_goes_on(served: Running, name: bytes) -> None:
    with attack(served) as sock:
        sock.sendall(FLAGS + go(name))
        _, _, reply, length = struct.unpack(">QIII", exactly(sock, 20))
        assert reply & wire.REP_ERROR_BIT
        exactly(sock, length)
        sock.sendall(option(2))
        assert exactly(sock, 20)[12:16] == b"\0\0\0\1"
        assert closed(sock)


def test_a1_a_long_old_style_name_is_hung_up_on(served: Running) -> None:
    with attack(served) as sock:
        sock.sendall(FLAGS + option(1, b"x" * 4096))
        assert closed(sock)


def test_a2_silent_sockets_lock_nobody_out(disk: MemoryExport, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with running(str(tmp_path / "many.sock"), disk) as served:
        silent = []
        try:
            for _ in range(1000):
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.connect(served.path)
                silent.append(sock)
            with NbdClient.unix(served.path, "disk", timeout=15) as client:
                client.write(0, b"served")
            count: list[int] = []
            served.server.call_soon(lambda: count.append(len(served.server._connections)))
            served.in_loop()
            assert count[0] <= nbd_door.HANDSHAKES + 1
        finally:
            for sock in silent:
                sock.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a2_a_host_that_crowds_the_door_locks_no_other_host_out(disk: MemoryExport, tmp_path: Path) -> None:
    """Silent sockets of one address make room for each other, never at the cost of another address."""
    with running(str(tmp_path / "crowd.sock"), disk) as served:
        address = ("127.0.0.1", served.port)
        with socket.create_connection(address, 15, source_address=("127.0.0.2", 0)) as slow:
            exactly(slow, 18)
            crowd = [socket.create_connection(address, 15) for _ in range(3 * nbd_door.HANDSHAKES)]
            exactly(crowd[-1], 18)  # so all of them have knocked
            slow.sendall(FLAGS + go(b"disk"))
            assert exactly(slow, 20)[8:12] == struct.pack(">I", wire.OPT_GO)
        for sock in crowd:
            sock.close()


def test_a2_a_handshake_has_a_deadline(disk: MemoryExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbd_door, "HANDSHAKE_SECONDS", 0.2)
    with running(str(tmp_path / "slow.sock"), disk) as served, attack(served) as sock:
        sock.sendall(b"\0\0\0")  # one byte short of the flags, for ever
        assert closed(sock)


def test_a2_connections_have_a_total(disk: MemoryExport, tmp_path: Path) -> None:
    with running(str(tmp_path / "full.sock"), disk, max_connections=3) as served:
        clients = [NbdClient.unix(served.path, "disk") for _ in range(3)]
        with socket.create_connection(("127.0.0.1", served.port), 15) as sock:
            assert closed(sock)
        clients.pop().close()
        until(lambda: len(served.exports.open_now) == 2)
        with NbdClient.unix(served.path, "disk") as late:
            late.write(0, b"room again")
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    "data",
    [
        FLAGS + request(wire.CMD_WRITE, 0, 4) + b"evil",
        b"\xff\xff\xff\xff",
        FLAGS + b"\0" * 64,
        FLAGS + b"IHAVEOPT\0\0\0\7\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["command first", "flags", "zeroes", "giant option", "http"],
)
def test_a3_out_of_order_is_hung_up_on(served: Running, disk: MemoryExport, data: bytes) -> None:
    with attack(served) as sock:
        sock.sendall(data)
        assert closed(sock)
    assert not disk.staged_lengths


def test_a3_options_after_go_are_no_requests(served: Running) -> None:
    with transmission(served) as sock:
        sock.sendall(go(b"disk") + go(b"disk"))
        assert closed(sock)


def test_a4_starttls_is_refused_and_nothing_is_injected(served: Running) -> None:
    with attack(served) as sock:
        sock.sendall(FLAGS + option(5) + option(2))
        _, number, reply, length = struct.unpack(">QIII", exactly(sock, 20))
        assert (number, reply) == (5, wire.REP_ERR_UNSUP)
        exactly(sock, length)
        assert closed(sock)


@pytest.mark.parametrize(
    ("command", "flags", "offset", "length", "errno"),
    [
        (wire.CMD_READ, 0, 0, 0xFFFFFFFF, wire.EINVAL),
        (wire.CMD_READ, 0, (1 << 64) - 1, 2, wire.EINVAL),
        (wire.CMD_READ, 0, 64 * MiB, 1, wire.EINVAL),
        (wire.CMD_READ, 0, 0, 0, wire.EINVAL),
        (wire.CMD_READ, wire.CMD_FLAG_DF, 0, 1, wire.EINVAL),
        (wire.CMD_TRIM, 0, 1, 0xFFFFFFFF, wire.EINVAL),
        (wire.CMD_WRITE_ZEROES, 0, 1, 0xFFFFFFFF, wire.ENOSPC),
        (wire.CMD_BLOCK_STATUS, 0, 0, 4096, wire.EINVAL),
        (wire.CMD_FLUSH, 0, 1, 1, wire.EINVAL),
        (wire.CMD_CACHE, 0, 64 * MiB, 1, wire.EINVAL),
        (99, 0, 0, 0, wire.EINVAL),
        (wire.CMD_READ, 0xFF00, 0, 1, wire.EINVAL),
        (wire.CMD_WRITE, 0, 64 * MiB - 1, 2, wire.ENOSPC),
        (wire.CMD_WRITE, 0, (1 << 64) - 4096, 4096, wire.ENOSPC),
        (wire.CMD_WRITE, 0, 0, 0, wire.EINVAL),
        (wire.CMD_WRITE, 0x8000, 0, 4096, wire.EINVAL),
        (wire.CMD_WRITE, 0, 0, 40 * MiB, wire.EINVAL),
    ],
)
def test_a5_bad_requests_get_an_error_and_the_connection_goes_on(
    served: Running, disk: MemoryExport, command: int, flags: int, offset: int, length: int, errno: int
) -> None:
    with transmission(served) as sock:
        sock.sendall(request(command, offset, length, flags=flags))
        if command == wire.CMD_WRITE:
            sock.sendall(bytes(length))
        assert exactly(sock, 16) == struct.pack(">II", wire.SIMPLE_REPLY_MAGIC, errno) + b"attacker"
        sock.sendall(request(wire.CMD_READ, 0, 1))
        assert exactly(sock, 17)[:8] == struct.pack(">II", wire.SIMPLE_REPLY_MAGIC, 0)
    assert not disk.staged_lengths


def backlog(served: Running) -> int:
    """The largest output queue, seen from inside the loop."""
    seen: list[int] = []
    connections = served.server._connections
    served.server.call_soon(lambda: seen.append(max(conn.out_bytes for conn in connections.values())))
    served.in_loop()
    return seen[0]


def test_a5_a_reader_that_never_reads_costs_bounded_memory(served: Running) -> None:
    with transmission(served) as sock:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.send(request(wire.CMD_READ, 0, MiB) * 50_000)  # 50 GB of replies, if it could
        until(lambda: backlog(served) >= 8 * MiB)
        assert max(backlog(served) for _ in range(20)) <= 9 * MiB + 32


def test_a5_a_lister_that_never_reads_costs_bounded_memory(tmp_path: Path) -> None:
    disks = [MemoryExport(f"{at:0200}", 4096) for at in range(1000)]
    with running(str(tmp_path / "list.sock"), *disks) as served, attack(served) as sock:
        sock.setblocking(False)
        sock.send(FLAGS + option(3) * 3000)  # 670 MB of replies, if it could
        until(lambda: backlog(served) >= 256 * 1024)
        assert max(backlog(served) for _ in range(20)) <= MiB


@pytest.mark.parametrize("length", [4096, 400_000, 8 * MiB])
def test_a6_a_cut_payload_is_never_more_than_a_prefix(served: Running, disk: MemoryExport, length: int) -> None:
    with transmission(served) as sock:
        sock.sendall(request(wire.CMD_WRITE, 0, length) + b"\xee" * (length // 2 + 1))
    until(lambda: not served.exports.open_now)
    evil = disk.content.rstrip(b"\0")
    assert len(evil) <= length // 2 + 1
    assert len(evil) % 4096 == 0
    assert evil == b"\xee" * len(evil)


def test_a6_stalled_payloads_do_not_disturb_others(served: Running, disk: MemoryExport) -> None:
    stalled = [transmission(served) for _ in range(20)]
    for sock in stalled:
        sock.sendall(request(wire.CMD_WRITE, 32 * MiB, 32 * MiB) + b"\xee" * 1000)
    with NbdClient.unix(served.path, "disk") as client:
        for at in range(100):
            client.write(at * 4096, b"ok" * 2048)
    assert not any(disk.content[32 * MiB :])
    for sock in stalled:
        sock.close()


def test_a7_clients_that_vanish_while_the_server_stops(disk: MemoryExport, tmp_path: Path) -> None:
    with running(str(tmp_path / "stop.sock"), disk) as served:
        served.exports.hold(True)
        socks = [transmission(served) for _ in range(10)]
        for sock in socks:
            sock.sendall(request(wire.CMD_WRITE, 0, 4096, flags=wire.CMD_FLAG_FUA) + bytes(4096))
        served.server.stop()
        for sock in socks:
            sock.close()
        served.thread.join(10)
        assert not served.thread.is_alive()
        assert not served.exports.open_now


def test_random_messages_never_stop_the_loop(served: Running) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(60):
        with transmission(served) as sock:
            sock.settimeout(15)
            for _ in range(rng.randrange(1, 30)):
                length = rng.choice([0, 1, 512, 4096, 70_000, 0xFFFFFFFF])
                message = request(
                    rng.randrange(10),
                    rng.choice([0, 1, 4096, 64 * MiB, 1 << 63]),
                    length,
                    flags=rng.choice([0, 0, 1, 4, 0xFFFF]),
                )
                payload = rng.randbytes(rng.choice([0, min(length, 70_000)]))
                broken = bytearray(message + payload)
                if rng.random() < 0.1:
                    broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
                try:
                    sock.sendall(broken)
                except (ConnectionResetError, BrokenPipeError):
                    break  # it hung up, which is its right
