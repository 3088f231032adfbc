# SPDX-License-Identifier: Apache-2.0
"""Listening and accepted sockets of the NBD server."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
import struct
from itertools import pairwise
from pathlib import Path

from stargate.errors import AlreadyExists, InvalidArgument

BACKLOG = 1024


def tcp(host: str, port: int) -> socket.socket:
    """Listens on one address; port 0 lets the kernel choose. Raises InvalidArgument or AlreadyExists."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InvalidArgument(f"cannot listen for NBD on {host}: {error.strerror}") from error
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise AlreadyExists(f"cannot listen for NBD on {host}:{port}: {error.strerror}") from error
    return sock


def is_routable(host: str) -> bool:
    """Whether other machines may reach what listens at `host`: anything but a loopback address, wildcards included."""
    try:
        address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
        return not ipaddress.ip_address(address).is_loopback
    except (OSError, ValueError):
        return True


def names_of(host: str) -> list[str]:
    """What clients may call a server that listens at `host`, for its certificate."""
    if host in ("", "0.0.0.0", "::"):
        return sorted({"localhost", "::1", socket.gethostname(), *_local_addresses()})
    return sorted({host, "localhost"} if not is_routable(host) else {host, socket.gethostname()})


def _local_addresses() -> set[str]:
    """The addresses of this machine's interfaces now, as the kernel tells them; without link-local IPv6."""
    found = {"127.0.0.1"}
    with contextlib.suppress(OSError):
        lines = Path("/proc/net/fib_trie").read_text(encoding="ascii").splitlines()
        found |= {line.split()[-1] for line, kind in pairwise(lines) if kind.strip() == "/32 host LOCAL"}
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines():
            address = ipaddress.IPv6Address(int(line.split()[0], 16))
            if not address.is_link_local:
                found.add(str(address))
    return found


def unix(path: str) -> socket.socket:
    """Listens on a socket file of mode 0660; a file left by a dead server is replaced, a living server's never."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _remove_stale(path)
        sock.bind(path)
        os.chmod(path, 0o660)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise InvalidArgument(f"cannot listen for NBD on {path}: {error.strerror or error}") from error
    except AlreadyExists:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise AlreadyExists(f"{path} exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise AlreadyExists(f"another server listens on {path}")


def prepare(sock: socket.socket) -> str:
    """Sets up an accepted socket and returns the peer as shown to operators."""
    sock.setblocking(False)
    if sock.family == socket.AF_UNIX:
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return f"local pid {pid} uid {uid}"
    # Explicit, on each socket: asyncio and friends skip it when a socket's proto reads 0.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    address = sock.getpeername()
    return f"{address[0]}:{address[1]}"


class Listeners:
    """The listening sockets of a server, by descriptor; socket files go away with them."""

    def __init__(self) -> None:
        self.by_fd: dict[int, socket.socket] = {}
        self._paths: list[str] = []

    def add_tcp(self, host: str, port: int) -> socket.socket:
        sock = tcp(host, port)
        self.by_fd[sock.fileno()] = sock
        return sock

    def add_unix(self, path: str) -> socket.socket:
        sock = unix(path)
        self.by_fd[sock.fileno()] = sock
        self._paths.append(path)
        return sock

    def close(self) -> None:
        """Idempotent. Closed descriptors leave every epoll by themselves."""
        for sock in self.by_fd.values():
            sock.close()
        self.by_fd.clear()
        for path in self._paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self._paths.clear()
