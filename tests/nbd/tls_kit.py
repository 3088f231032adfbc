# SPDX-License-Identifier: Apache-2.0
"""A site's NBD authority with its clients, and raw conversations up to STARTTLS."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nbd_kit import Running

from stargate.nbd import wire
from stargate.nbd.authority import Authority, Issued
from stargate.nbd.client import NbdClient
from stargate.nbd.tls import TlsPolicy, client_context

FLAGS = b"\0\0\0\3"


def option(number: int, data: bytes = b"") -> bytes:
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def go(name: bytes = b"disk") -> bytes:
    return option(wire.OPT_GO, struct.pack(">I", len(name)) + name + b"\0\0")


STARTTLS = option(wire.OPT_STARTTLS)


class Site:
    """An authority, and a server that requires TLS as if 127.0.0.1 were routable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "nbd", "test site")
        self.policy = TlsPolicy(self.authority.server_context(["127.0.0.1", "localhost"]), self.authority.admit)

    def client(self, name: str = "kvm1", authority: Authority | None = None) -> Path:
        """A folder as clients want it, with a new certificate."""
        return put(self.folder / name, (authority or self.authority).issue(name), self.authority.authority_pem)


def put(folder: Path, issued: Issued, authority_pem: str) -> Path:
    folder.mkdir()
    (folder / "ca-cert.pem").write_text(authority_pem)
    (folder / "client-cert.pem").write_text(issued.certificate_pem)
    (folder / "client-key.pem").write_text(issued.key_pem)
    return folder


def connect(served: Running, folder: Path, **options: int) -> NbdClient:
    return NbdClient.tcp("127.0.0.1", served.port, "disk", tls=client_context(folder), timeout=15, **options)


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


@contextmanager
def plain(served: Running) -> Iterator[socket.socket]:
    """A raw connection that has read the greeting and sent its flags."""
    with socket.create_connection(("127.0.0.1", served.port), 15) as sock:
        exactly(sock, 18)
        sock.sendall(FLAGS)
        yield sock


def answer(sock: socket.socket) -> int:
    """The kind of one option reply, its text read away."""
    _, _, kind, length = struct.unpack(">QIII", exactly(sock, 20))
    exactly(sock, length)
    return int(kind)


def hung_up(sock: socket.socket) -> bool:
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True
