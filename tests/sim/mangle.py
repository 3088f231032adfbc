# SPDX-License-Identifier: Apache-2.0
"""What a wire must never do, done to it all the same: whole frames doubled, swapped, dropped or with a flipped bit.

TCP does none of this (so `stargate.memtransport` cannot either), a broken box on the way may. The sites must notice,
end the connection, and resume.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from stargate.memtransport import Fault, MemoryNetwork, MemoryStream, MemoryTransport
from stargate.transport import Buffer

MangleKind = Literal["double", "swap", "drop", "flip"]


@dataclass(frozen=True, slots=True)
class Mangle:
    """What becomes of the frame with this number (0 = HELLO) that the connecting end sends."""

    kind: MangleKind
    frame: int


class MangledStream:
    """`Stream` that passes on what an inner one does, but for one frame; the link sends each frame in one call."""

    def __init__(self, inner: MemoryStream, mangle: Mangle, rng: Random) -> None:
        self._inner = inner
        self._mangle = mangle
        self._rng = rng
        self._sent = 0
        self._held = b""
        self.address = inner.address

    def sendall(self, data: Buffer) -> None:
        number, self._sent = self._sent, self._sent + 1
        if number == self._mangle.frame:
            self._spoil(bytes(data))
            return
        self._inner.sendall(data)
        if self._held:
            held, self._held = self._held, b""
            self._inner.sendall(held)

    def _spoil(self, data: bytes) -> None:
        if self._mangle.kind == "double":
            self._inner.sendall(data + data)
        elif self._mangle.kind == "swap":
            self._held = data
        elif self._mangle.kind == "flip":
            spoilt = bytearray(data)
            spoilt[self._rng.randrange(len(spoilt))] ^= 1 << self._rng.randrange(8)
            self._inner.sendall(spoilt)

    def has_more(self) -> bool:
        return self._inner.has_more()

    def handshake(self, timeout_seconds: float) -> None:
        self._inner.handshake(timeout_seconds)

    def certificate(self) -> bytes | None:
        return self._inner.certificate()

    def settimeout(self, seconds: float) -> None:
        self._inner.settimeout(seconds)

    def recv_into(self, buffer: memoryview) -> int:
        return self._inner.recv_into(buffer)

    def end_sending(self) -> None:
        self._inner.end_sending()

    def abort(self) -> None:
        self._inner.abort()

    def close(self) -> None:
        self._inner.close()

    def wire_bytes(self) -> int:
        return self._inner.wire_bytes()


class SiteTransport:
    """A site's way out: notes its streams, and mangles the next connection when told to."""

    def __init__(self, transport: MemoryTransport, network: SimNetwork, streams: list[MemoryStream]) -> None:
        self._transport = transport
        self._network = network
        self._streams = streams

    def connect(self, address: str, port: int, timeout_seconds: float) -> MemoryStream | MangledStream:
        stream = self._transport.connect(address, port, timeout_seconds)
        self._streams.append(stream)
        mangle, self._network.mangle_next = self._network.mangle_next, None
        return stream if mangle is None else MangledStream(stream, mangle, self._network.rng)


class SimNetwork(MemoryNetwork):
    """A network that gives each new connection to the site it goes to at once: nobody waits in an `accept`."""

    mangle_next: Mangle | None = None
    rng: Random

    def connect(self, address: str, port: int, certificate: bytes | None) -> MemoryStream:
        near = super().connect(address, port, certificate)
        listener = self._listeners[address, port]
        self.arrived(address, listener.waiting.popleft())
        return near

    def arrived(self, address: str, stream: MemoryStream) -> None:
        """Set by the world."""
        raise NotImplementedError


def silence(stream: MemoryStream) -> None:
    """This end lost its power: what it sent and nobody has got never comes, nor does an end."""
    pipe = stream._out
    pipe._fault = Fault("vanish", pipe._taken)
