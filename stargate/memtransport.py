# SPDX-License-Identifier: Apache-2.0
"""`MemoryTransport`: streams inside one process that spoil themselves on order, for the simulator (LAW 5).

What it models is TCP: bytes arrive in order, once, or not at all. A connection can be cut at any byte of a direction,
stall there (the writer is held up once the buffers are full), lose all that follows (`vanish`: the writer notices
nothing, a one-way link), be slow, and hand over its bytes in slices. Reordered or doubled frames cannot happen below
TCP, so there are none.

Deterministic whatever the threads do: an end that waits is woken by bytes or by the end of the stream only, and time
passes only when both ends of a connection wait for each other; then the one with less patience left times out (the
accepting one when they are equal), and the clock is moved on by that much. Each end therefore sees the same bytes and
errors in every run, as in a Kahn network. The clock's `sleep` must be one that returns at once.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from stargate.clock import Clock
from stargate.transport import SILENCE_SECONDS, Buffer
from stargate.units import KiB

CAPACITY_BYTES = 256 * KiB
"""What a direction holds that nobody has read: both ends' socket buffers and the wire."""

_FIRST_PORT = 40_000
_CLOSED = "the stream is closed"


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of one direction once `at_byte` bytes went into it."""

    kind: Literal["cut", "stall", "vanish"]
    at_byte: int


@dataclass(frozen=True, slots=True)
class Spoil:
    """How a connection is spoiled. `up` = from the connecting end. `slice_bytes`: what one read gives at most, drawn
    anew each time; `bytes_per_second`: how far each read moves the clock on. None = not at all.
    """

    up: Fault | None = None
    down: Fault | None = None
    slice_bytes: int | None = None
    bytes_per_second: int | None = None


SOUND = Spoil()


class MemoryNetwork:
    """Where the transports of several sites meet. One per simulation; `rng` decides all that is left to chance.

    `condition` makes what its threads wait with: a simulator that lets one thread run at a time gives its own.
    """

    def __init__(
        self, clock: Clock, rng: Random, *, condition: Callable[[], threading.Condition] = threading.Condition
    ) -> None:
        self.clock = clock
        self.condition = condition
        self._rng = rng
        self._changed = condition()
        self._listeners: dict[tuple[str, int], MemoryListener] = {}
        self._spoils: deque[Spoil] = deque()
        self._open = 0

    def spoil_next(self, spoil: Spoil) -> None:
        """The next connection not yet spoken for is spoiled like this; those after it are sound."""
        with self._changed:
            self._spoils.append(spoil)

    def transport(self, certificate: bytes | None = None) -> MemoryTransport:
        """A site's access. `certificate` (DER) is what its streams prove to the other end."""
        return MemoryTransport(self, certificate)

    def wait_quiet(self) -> None:
        """Until both ends of every connection were closed: whoever served one is done with it."""
        with self._changed:
            self._changed.wait_for(lambda: self._open == 0)

    def closed_one(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def listen(self, address: str, port: int, certificate: bytes | None) -> MemoryListener:
        with self._changed:
            if (address, port) in self._listeners:
                raise OSError(errno.EADDRINUSE, "somebody listens there already")
            port = port or next(p for p in range(_FIRST_PORT, 65536) if (address, p) not in self._listeners)
            found = self._listeners[address, port] = MemoryListener(self, address, port, certificate)
            return found

    def connect(self, address: str, port: int, certificate: bytes | None) -> MemoryStream:
        with self._changed:
            listener = self._listeners.get((address, port))
            if listener is None:
                raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens there")
            spoil = self._spoils.popleft() if self._spoils else SOUND
            wire = _Wire(self, spoil, Random(self._rng.random()))
            self._open += 2
            near, far = wire.ends(certificate, listener.certificate, f"{address}:{port}")
            listener.waiting.append(far)
            self._changed.notify_all()
            return near

    def next_of(self, listener: MemoryListener) -> MemoryStream:
        with self._changed:
            while not listener.waiting:
                if self._listeners.get((listener.address, listener.port)) is not listener:
                    raise OSError(errno.EBADF, "the listener is closed")
                self._changed.wait()
            return listener.waiting.popleft()

    def forget(self, listener: MemoryListener) -> None:
        with self._changed:
            if self._listeners.get((listener.address, listener.port)) is listener:
                del self._listeners[listener.address, listener.port]
            left = list(listener.waiting)
            listener.waiting.clear()
            self._changed.notify_all()
        for stream in left:
            stream.close()


class MemoryTransport:
    """`Transport` of one site in a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, certificate: bytes | None) -> None:
        self._network = network
        self._certificate = certificate

    def listen(self, address: str, port: int) -> MemoryListener:
        return self._network.listen(address, port, self._certificate)

    def connect(self, address: str, port: int, timeout_seconds: float) -> MemoryStream:
        return self._network.connect(address, port, self._certificate)


class MemoryListener:
    """`Listener` of a `MemoryTransport`."""

    def __init__(self, network: MemoryNetwork, address: str, port: int, certificate: bytes | None) -> None:
        self._network = network
        self.address = address
        self.port = port
        self.certificate = certificate
        self.waiting: deque[MemoryStream] = deque()

    def accept(self) -> MemoryStream:
        return self._network.next_of(self)

    def close(self) -> None:
        self._network.forget(self)


class _Pipe:
    """One direction of a connection; used under the wire's lock."""

    def __init__(self, fault: Fault | None) -> None:
        self._data = bytearray()
        self._fault = fault
        self._taken = 0
        self._written = 0
        self._ended = False
        self.broken = False
        """Nobody reads any more, or it was cut: writing fails."""

    @property
    def _hurt(self) -> bool:
        """The fault's byte was reached: nothing behind it arrives, not even the end."""
        return self._fault is not None and self._written >= self._fault.at_byte and self._fault.kind != "cut"

    def room(self) -> int:
        """How many bytes it takes now."""
        left = CAPACITY_BYTES - len(self._data)
        if self._fault is not None and self._fault.kind == "cut":
            return min(left, self._fault.at_byte - self._written)
        return left

    def write(self, data: memoryview) -> None:
        """At most `room` bytes."""
        self._written += len(data)
        if self._fault is not None and self._fault.kind == "vanish":
            data = data[: max(0, self._fault.at_byte - self._taken - len(self._data))]
        self._data += data

    def at_cut(self) -> bool:
        return self._fault is not None and self._fault.kind == "cut" and self._written >= self._fault.at_byte

    def ready(self) -> int:
        """How many bytes can be read now."""
        if self._fault is None:
            return len(self._data)
        return min(len(self._data), self._fault.at_byte - self._taken)

    def take(self, count: int) -> bytes:
        found = bytes(self._data[:count])
        del self._data[:count]
        self._taken += count
        return found

    def end(self) -> None:
        self._ended = True

    def at_end(self) -> bool:
        """Whether a reader is told that no more comes."""
        return self._ended and not self._hurt and not self._data


class _Wire:
    """A connection: two pipes, two ends, one lock."""

    def __init__(self, network: MemoryNetwork, spoil: Spoil, rng: Random) -> None:
        self.network = network
        self.clock = network.clock
        self.spoil = spoil
        self._rngs = Random(rng.random()), Random(rng.random())
        self.changed = network.condition()
        self._ends: list[MemoryStream] = []

    def ends(self, near: bytes | None, far: bytes | None, address: str) -> tuple[MemoryStream, MemoryStream]:
        """The connecting and the accepting end, with what each proves of itself."""
        up, down = _Pipe(self.spoil.up), _Pipe(self.spoil.down)
        self._ends.append(MemoryStream(self, down, up, far, address, self._rngs[0]))
        self._ends.append(MemoryStream(self, up, down, near, "in process", self._rngs[1]))
        return self._ends[0], self._ends[1]

    def wait(self, stream: MemoryStream, ready: Callable[[], bool]) -> None:
        """Until `ready`. Raises TimeoutError when only time can pass. Call with the lock held."""
        stream.ready, stream.left_seconds = ready, stream.timeout_seconds
        try:
            while not ready():
                loser = self._idle()
                if loser is stream:
                    self._pass(stream.left_seconds)
                    raise TimeoutError(errno.ETIMEDOUT, "the other end is silent")
                if loser is not None:
                    self.changed.notify_all()  # it wakes up and finds the same
                self.changed.wait()
        finally:
            stream.ready = None

    def _idle(self) -> MemoryStream | None:
        """The end that times out now; None while one of them is at work or has something to take."""
        alive = [end for end in reversed(self._ends) if not end.closed]
        if any(end.ready is None or end.ready() for end in alive):
            return None
        return min(alive, key=lambda end: end.left_seconds, default=None)

    def _pass(self, seconds: float) -> None:
        for end in self._ends:
            end.left_seconds -= seconds
        self.clock.sleep(seconds)


class MemoryStream:
    """`Stream` of a `MemoryTransport`."""

    def __init__(
        self, wire: _Wire, incoming: _Pipe, outgoing: _Pipe, proof: bytes | None, address: str, rng: Random
    ) -> None:
        self._wire = wire
        self._in = incoming
        self._out = outgoing
        self._proof = proof
        self._rng = rng
        self._moved_bytes = 0
        self.address = address
        self.timeout_seconds = SILENCE_SECONDS
        self.closed = False
        self._aborted = False
        self.ready: Callable[[], bool] | None = None
        """What this end waits for; None while it is at work elsewhere."""
        self.left_seconds = 0.0
        """How much longer it waits."""

    def handshake(self, timeout_seconds: float) -> None:
        """Nothing is proven here: the network told both ends."""

    def certificate(self) -> bytes | None:
        return self._proof

    def settimeout(self, seconds: float) -> None:
        with self._wire.changed:
            self.timeout_seconds = seconds

    def sendall(self, data: Buffer) -> None:
        left = memoryview(data)
        with self._wire.changed:
            while len(left):
                self._check_out()
                self._wire.wait(self, lambda: self._out.broken or self.closed or self._out.room() > 0)
                self._check_out()
                part = left[: self._out.room()]
                self._out.write(part)
                self._moved_bytes += len(part)
                left = left[len(part) :]
                self._wire.changed.notify_all()

    def _check_out(self) -> None:
        if self._out.at_cut():
            self._cut()
        if self.closed or self._out.broken:
            raise BrokenPipeError(errno.EPIPE, _CLOSED)

    def _cut(self) -> None:
        """The connection breaks where this end would have written on: the other one reads what came before."""
        self._out.end()
        self._out.broken = True
        self._wire.changed.notify_all()
        raise ConnectionResetError(errno.ECONNRESET, "the connection was cut")

    def recv_into(self, buffer: memoryview) -> int:
        pipe = self._in
        with self._wire.changed:
            self._wire.wait(self, lambda: self.closed or self._aborted or pipe.ready() > 0 or pipe.at_end())
            if self.closed:
                raise OSError(errno.EBADF, _CLOSED)
            count = min(pipe.ready(), len(buffer), self._slice())
            buffer[:count] = pipe.take(count)
            self._moved_bytes += count
            if self._wire.spoil.bytes_per_second:
                self._wire.clock.sleep(count / self._wire.spoil.bytes_per_second)
            self._wire.changed.notify_all()
            return count

    def has_more(self) -> bool:
        with self._wire.changed:
            return self.closed or self._aborted or self._in.ready() > 0 or self._in.at_end()

    def _slice(self) -> int:
        most = self._wire.spoil.slice_bytes
        return CAPACITY_BYTES if most is None else self._rng.randint(1, most)

    def end_sending(self) -> None:
        with self._wire.changed:
            self._out.end()
            self._out.broken = True
            self._wire.changed.notify_all()

    def abort(self) -> None:
        with self._wire.changed:
            self._aborted = True
            self._out.end()
            self._in.broken = self._out.broken = True
            self._wire.changed.notify_all()

    def close(self) -> None:
        with self._wire.changed:
            if self.closed:
                return
            self.closed = True
            self._out.end()
            self._in.broken = True
            self._wire.changed.notify_all()
        self._wire.network.closed_one()

    def wire_bytes(self) -> int:
        return self._moved_bytes
