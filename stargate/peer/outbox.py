# SPDX-License-Identifier: Apache-2.0
"""What leaves towards a peer: items gathered into PUT frames, a bounded number under way, at an allowed rate."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from stargate.clock import Clock
from stargate.extents.format import Kind
from stargate.peer.client import PeerClient, Pending
from stargate.peer.frame import PUT_ITEMS_MAX
from stargate.peer.link import BEAT_SECONDS
from stargate.peer.wire import Item, Put, PutAck
from stargate.units import KiB, MiB

FRAME_BYTES = 1 * MiB
"""A PUT is sent when it holds this much: long enough to cost little per frame, short enough to pace and to cancel."""

UNDER_WAY_BYTES = 8 * MiB
"""Sent and not yet acknowledged; covers 640 Mbit/s over 100 ms."""

_SLOW_FRAME_BYTES = 64 * KiB


class Cancelled(Exception):
    """The job was told to stop."""


@dataclass(slots=True)
class Counters:
    """What a job did so far. Chunks count as sent, and guest bytes as done, when the peer has acknowledged them."""

    done_bytes: int = 0
    total_bytes: int = 0
    chunks_total: int = 0
    chunks_sent: int = 0


class Gate:
    """Pause, cancel and rate of one job. `rate` is asked before every frame: bytes per second, None = unlimited."""

    def __init__(self, clock: Clock, rate: Callable[[], int | None] | None) -> None:
        self._clock = clock
        self._rate = rate
        self._due = clock.monotonic()
        self._go = threading.Event()
        self._go.set()
        self.cancelled = threading.Event()

    def pause(self) -> None:
        self._go.clear()

    def resume(self) -> None:
        self._go.set()

    def cancel(self) -> None:
        self.cancelled.set()
        self._go.set()

    def frame_bytes(self) -> int:
        """How much to put into the next frame: smaller ones on a slow link, so that its pace is even."""
        rate = self._rate() if self._rate else None
        return FRAME_BYTES if rate is None else max(_SLOW_FRAME_BYTES, min(FRAME_BYTES, rate))

    def pass_bytes(self, count: int, beat: Callable[[], None]) -> None:
        """Return when `count` bytes may go; `beat` is called so often that the peer does not take the silence for
        death. Raises Cancelled.
        """
        while not self._go.wait(BEAT_SECONDS):
            beat()
        rate = self._rate() if self._rate else None
        if rate is not None:
            self._due = max(self._due, self._clock.monotonic())
            while (left := self._due - self._clock.monotonic()) > 0 and not self.cancelled.wait(
                min(left, BEAT_SECONDS)
            ):
                if left > BEAT_SECONDS:
                    beat()
            self._due += count / max(rate, 1)
        if self.cancelled.is_set():
            raise Cancelled


class Outbox:
    """Keeps the order of items: children before their node."""

    def __init__(self, client: PeerClient, gate: Gate, counters: Counters) -> None:
        self._client = client
        self._gate = gate
        self._counters = counters
        self._items: list[Item] = []
        self._bytes = 0
        self._guest_bytes = 0
        self._under_way: deque[tuple[Pending[PutAck], int]] = deque()

    def add(self, item: Item, guest_bytes: int) -> None:
        """Queue one item that stands for `guest_bytes` of progress; may send and wait."""
        if self._bytes + len(item.payload) > self._gate.frame_bytes() or len(self._items) >= PUT_ITEMS_MAX:
            self.flush()
        self._items.append(item)
        self._bytes += len(item.payload)
        self._guest_bytes += guest_bytes

    def flush(self) -> None:
        """Send what is queued; waits while too much is under way."""
        if not self._items:
            return
        self._gate.pass_bytes(self._bytes, self._client.ping)
        chunks = sum(1 for item in self._items if item.kind == Kind.CHUNK)
        guest_bytes = self._guest_bytes

        def acknowledged(_: PutAck) -> None:
            self._counters.chunks_sent += chunks
            self._counters.done_bytes += guest_bytes

        pending = self._client.request(Put(self._items), PutAck, acknowledged)
        self._under_way.append((pending, self._bytes))
        self._items, self._bytes, self._guest_bytes = [], 0, 0
        while sum(size for _, size in self._under_way) > UNDER_WAY_BYTES or (
            self._under_way and self._under_way[0][0].value is not None
        ):
            self._under_way.popleft()[0].result()
