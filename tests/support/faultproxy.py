# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy in user space that spoils links on purpose: cut, reset, stall, one-way, slow, lag, slice.

    with FaultProxy(("127.0.0.1", port)) as proxy:
        proxy.cut_after(70_000)            # the next connection dies after so many bytes towards the target
        connect(*proxy.address)

Faults hold for all connections until `heal`, except `cut_after` and `reset_after`, which are used up by one.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["up", "down"]
"""`up` = towards the target."""

_READ_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)


@dataclass
class _Faults:
    end_after: int | None = None
    with_reset: bool = False
    stalled: set[Direction] = field(default_factory=set)
    swallowed: set[Direction] = field(default_factory=set)
    bytes_per_second: int | None = None
    lag_seconds: float = 0.0
    slice_bytes: int | None = None


class FaultProxy:
    """Listens on a free port of the loopback address; a thread per direction."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._changed = threading.Condition()
        self._faults = _Faults()
        self._open: set[socket.socket] = set()
        self._resetting: set[socket.socket] = set()
        self._closing = False
        self.moved: dict[Direction, int] = {"up": 0, "down": 0}
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- faults

    def cut_after(self, up_bytes: int) -> None:
        """Close both sides of one connection after so many more bytes towards the target."""
        self._set(end_after=self.moved["up"] + up_bytes, with_reset=False)

    def reset_after(self, up_bytes: int) -> None:
        """As `cut_after`, with RST."""
        self._set(end_after=self.moved["up"] + up_bytes, with_reset=True)

    def stall(self, *directions: Direction) -> None:
        """Stop reading: the sender's buffers fill, nobody is told."""
        self._set(stalled=set(directions or ("up", "down")))

    def swallow(self, direction: Direction) -> None:
        """One-way link: bytes of this direction are taken and lost."""
        self._set(swallowed={direction})

    def slow(self, bytes_per_second: int) -> None:
        self._set(bytes_per_second=bytes_per_second)

    def lag(self, seconds: float) -> None:
        """Forward what was read so much later; nothing more of that direction is read meanwhile."""
        self._set(lag_seconds=seconds)

    def slice(self, size: int) -> None:
        """Forward in pieces of at most `size` bytes."""
        self._set(slice_bytes=size)

    def heal(self) -> None:
        with self._changed:
            self._faults = _Faults()
            self._changed.notify_all()

    def cut_now(self) -> None:
        """Close all present connections."""
        with self._changed:
            for sock in self._open:
                _shut(sock)

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        _shut(self._listener)
        self._listener.close()
        self.cut_now()
        for thread in list(self._threads):
            thread.join()

    def _set(self, **changes: object) -> None:
        with self._changed:
            for name, value in changes.items():
                setattr(self._faults, name, value)
            self._changed.notify_all()

    # --- the pumps

    def _accept(self) -> None:
        while not self._closing:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                far = socket.create_connection(self._target, timeout=10)
            except OSError:
                near.close()
                continue
            for sock in (near, far):
                sock.settimeout(None)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self._open |= {near, far}
            pair = [
                threading.Thread(target=self._pump, args=(near, far, "up"), daemon=True),
                threading.Thread(target=self._pump, args=(far, near, "down"), daemon=True),
            ]
            self._threads += pair
            for thread in pair:
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        try:
            while self._wait_for_leave(direction) and (data := source.recv(_READ_BYTES)):
                if not self._forward(data, source, sink, direction):
                    break
        except OSError:
            pass
        finally:
            with self._changed:
                self._open -= {source, sink}
                polite = {source, sink} - self._resetting
            for sock in polite:
                _shut(sock)
            source.close()

    def _wait_for_leave(self, direction: Direction) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or direction not in self._faults.stalled)
            return not self._closing

    def _forward(self, data: bytes, source: socket.socket, sink: socket.socket, direction: Direction) -> bool:
        """False when the connection ends here."""
        if not self._wait_for_leave(direction):  # it may have been stalled while this end waited for bytes
            return False
        faults = self._faults
        if faults.lag_seconds:
            time.sleep(faults.lag_seconds)
        if direction in faults.swallowed:
            return True
        ends = False
        if direction == "up" and faults.end_after is not None:
            left = faults.end_after - self.moved["up"]
            if len(data) >= left:
                data, ends = data[: max(0, left)], True
        step = faults.slice_bytes or len(data) or 1
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            if faults.bytes_per_second:
                time.sleep(len(piece) / faults.bytes_per_second)
            sink.sendall(piece)
            self.moved[direction] += len(piece)
        if ends:
            self._end(source, sink)
        return not ends

    def _end(self, source: socket.socket, sink: socket.socket) -> None:
        with_reset = self._faults.with_reset
        self._set(end_after=None)
        if not with_reset:
            return
        with self._changed:
            self._resetting |= {source, sink}
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                sock.shutdown(socket.SHUT_RD)  # wakes the other pump, whose close then sends the RST


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
