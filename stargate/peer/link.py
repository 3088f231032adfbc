# SPDX-License-Identifier: Apache-2.0
"""One TLS connection carrying frames. A link that says nothing for `IDLE_SECONDS` is dead; whoever has nothing to say
sends PING.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import NoReturn

from stargate.errors import PeerRefused, PeerUnreachable
from stargate.peer.frame import HEADER_BYTES, Header, Type, parse_header
from stargate.peer.wire import Message, decode_payload, encode_frame

IDLE_SECONDS = 12.0
"""Longest silence, and longest stall of a write: below the 15 s within which a half-open link must be noticed."""

BEAT_SECONDS = 4.0
"""How often the side that is busy or waiting shows that it lives."""

_KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 3), (socket.TCP_KEEPCNT, 3))
_TCP_INFO_RECEIVED = 128
_TCP_INFO_SENT = 200
_TCP_INFO_BYTES = 208


def tune(sock: socket.socket) -> None:
    """No Nagle on either end (40-ms stalls), a dead peer noticed also when nothing is being read."""
    sock.settimeout(IDLE_SECONDS)
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(IDLE_SECONDS * 1000))


class Link:
    """Frames over TLS. One thread at a time; only `abort` may come from another."""

    def __init__(self, connection: ssl.SSLSocket, allowed: frozenset[Type]) -> None:
        self._socket = connection
        self._allowed = allowed
        self._framed_bytes = 0
        self._measured_bytes = 0

    def send(self, message: Message, request: int) -> int:
        """Send one frame; returns its bytes. Raises PeerUnreachable."""
        data = encode_frame(message, request)
        try:
            self._socket.sendall(data)
        except OSError as exc:
            raise_transport(exc)
        self._framed_bytes += len(data)
        return len(data)

    def receive(self) -> tuple[Header, Message] | None:
        """The next message, None when the other side closed between frames. Raises PeerUnreachable, PeerProtocol."""
        head = bytearray(HEADER_BYTES)
        if not self._fill(head, may_end=True):
            return None
        header = parse_header(head, self._allowed)
        payload = bytearray(header.length)
        self._fill(payload, may_end=False)
        self._framed_bytes += len(head) + len(payload)
        return header, decode_payload(head, header, payload)

    def _fill(self, buffer: bytearray, *, may_end: bool) -> bool:
        view = memoryview(buffer)
        done = 0
        while done < len(view):
            try:
                got = self._socket.recv_into(view[done:])
            except OSError as exc:
                raise_transport(exc)
            if got == 0:
                if may_end and done == 0:
                    return False
                raise PeerUnreachable("the connection to the other site was cut; it will be resumed")
            done += got
        return True

    def wire_bytes(self) -> int:
        """Bytes that this connection moved both ways, TLS included, as the kernel counted them (frames, where it does
        not).
        """
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            info = b""
        if len(info) >= _TCP_INFO_BYTES:
            (received,) = struct.unpack_from("=Q", info, _TCP_INFO_RECEIVED)
            (sent,) = struct.unpack_from("=Q", info, _TCP_INFO_SENT)
            self._measured_bytes = max(self._measured_bytes, received + sent)
        return self._measured_bytes or self._framed_bytes

    def finish(self) -> None:
        """Say that nothing more comes and let the other side read what was sent: bytes it still has under way are
        discarded, for closing over them would reset the connection and destroy our last message.
        """
        with contextlib.suppress(OSError):
            self._socket.settimeout(1.0)
            self._socket.shutdown(socket.SHUT_WR)
            for _ in range(1024):
                if not self._socket.recv(64 * 1024):
                    break
        self.close()

    def abort(self) -> None:
        """Wake whoever is blocked in this link; it fails with PeerUnreachable."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def raise_transport(exc: OSError) -> NoReturn:
    """Translate what the socket or TLS raised: refused for a certificate matter, unreachable for all else."""
    reason = str(getattr(exc, "reason", "") or "")
    if isinstance(exc, ssl.SSLCertVerificationError):
        raise PeerRefused(
            "the other site does not present the paired certificate; pair the sites again", str(exc)
        ) from exc
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        raise PeerRefused(
            "the other site does not accept this site's certificate; pair the sites again", str(exc)
        ) from exc
    if isinstance(exc, TimeoutError):
        raise PeerUnreachable(
            "the other site stopped answering; check the network between the sites", str(exc)
        ) from exc
    raise PeerUnreachable("the connection to the other site was cut or refused; it will be resumed", str(exc)) from exc
