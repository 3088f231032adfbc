# SPDX-License-Identifier: Apache-2.0
"""One connection carrying frames. A link that says nothing for `IDLE_SECONDS` is dead; whoever has nothing to say
sends PING.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import NoReturn

from stargate.errors import PeerRefused, PeerUnreachable
from stargate.peer.frame import HEADER_BYTES, Header, Type, parse_header
from stargate.peer.wire import Message, decode_payload, encode_frame
from stargate.transport import SILENCE_SECONDS, Stream
from stargate.units import KiB

IDLE_SECONDS = SILENCE_SECONDS
"""Longest silence, and longest stall of a write."""

BEAT_SECONDS = SILENCE_SECONDS / 3
"""How often the side that is busy or waiting shows that it lives."""

LAST_WORDS_SECONDS = 1.0


class Link:
    """Frames over a stream that is past its handshake. One thread at a time; only `abort` may come from another."""

    def __init__(self, stream: Stream, allowed: frozenset[Type]) -> None:
        self._stream = stream
        self._allowed = allowed
        stream.settimeout(IDLE_SECONDS)

    def send(self, message: Message, request: int) -> int:
        """Send one frame; returns its bytes. Raises PeerUnreachable."""
        data = encode_frame(message, request)
        try:
            self._stream.sendall(data)
        except OSError as exc:
            raise_transport(exc)
        return len(data)

    def receive(self) -> tuple[Header, Message] | None:
        """The next message, None when the other side closed between frames. Raises PeerUnreachable, PeerProtocol."""
        head = bytearray(HEADER_BYTES)
        if not self._fill(head, may_end=True):
            return None
        header = parse_header(head, self._allowed)
        payload = bytearray(header.length)
        self._fill(payload, may_end=False)
        return header, decode_payload(head, header, payload)

    def _fill(self, buffer: bytearray, *, may_end: bool) -> bool:
        view = memoryview(buffer)
        done = 0
        while done < len(view):
            try:
                got = self._stream.recv_into(view[done:])
            except OSError as exc:
                raise_transport(exc)
            if got == 0:
                if may_end and done == 0:
                    return False
                raise PeerUnreachable("the connection to the other site was cut; it will be resumed")
            done += got
        return True

    def has_more(self) -> bool:
        """Whether something is there to be read, or the end of the stream."""
        try:
            return self._stream.has_more()
        except (OSError, ValueError):  # closed meanwhile: `receive` tells
            return True

    def wire_bytes(self) -> int:
        """Bytes that this connection moved both ways, as its transport counts them."""
        return self._stream.wire_bytes()

    def finish(self) -> None:
        """Say that nothing more comes and let the other side read what was sent: bytes it still has under way are
        discarded, for closing over them would reset the connection and destroy our last message.
        """
        waste = memoryview(bytearray(64 * KiB))
        with contextlib.suppress(OSError):
            self._stream.settimeout(LAST_WORDS_SECONDS)
            self._stream.end_sending()
            for _ in range(1024):
                if not self._stream.recv_into(waste):
                    break
        self.close()

    def abort(self) -> None:
        """Wake whoever is blocked in this link; it fails with PeerUnreachable."""
        self._stream.abort()

    def close(self) -> None:
        self._stream.close()


def raise_transport(exc: OSError) -> NoReturn:
    """Translate what the stream raised: refused for a certificate matter, unreachable for all else."""
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
