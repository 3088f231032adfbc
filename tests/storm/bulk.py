# SPDX-License-Identifier: Apache-2.0
"""Fills the log: many stamped writes in flight on one disk, each journaled, until the engine takes no more."""

from __future__ import annotations

import random
import threading
from collections import deque
from typing import NamedTuple

from stargate.errors import StargateError
from stargate.nbd.client import NbdClient
from stargate.nbd.link import NbdDisconnected, NbdRefused, NbdRequestFailed
from stargate.units import MiB
from tests.support.engine_site import EngineSite, wait_for
from tests.support.oracle import BLOCK, read_stamp, stamp

WRITER = 99
FULL = 0.95
"""Fill from which on the front takes no guest writes (stargate.front.engine.PACE_STOP)."""

DEPTH = 64


class _Piece(NamedTuple):
    cookie: int
    block: int
    length: int
    number: int


class Bulk:
    """One disk of `blocks` blocks and what may be in each: the acknowledged write, or one that was in flight."""

    def __init__(self, site: EngineSite, blocks: int, seed: int, *, longest: int = 16) -> None:
        """Writes of 1 to `longest` blocks. Makes the disk."""
        self.site = site
        self.blocks = blocks
        self.vdisk = site.disk(blocks * BLOCK)
        self.written = 0  # acknowledged writes
        self._longest = longest
        self._random = random.Random(f"bulk-{seed}")
        self._held: dict[int, int] = {}
        self._open: dict[int, int] = {}  # block -> number that was issued and not yet acknowledged
        self._number = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: Exception | None = None

    def fill(self, seconds: float = 300.0) -> int:
        """Write until the log is full; the writer is then still waiting. Returns the bytes in the log."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="bulk", daemon=True)
        self._thread.start()
        wait_for(lambda: self.error or self._fill_level() >= FULL, "the log to be full", seconds)
        if self._fill_level() < FULL:
            raise AssertionError(f"the log could not be filled: {self.error!r}")
        return int(self.site.engine.status()["log_used_bytes"])

    def _fill_level(self) -> float:
        status = self.site.engine.status()
        return float(status["log_used_bytes"]) / float(status["log_cap_bytes"])

    def end(self) -> None:
        """After the front was killed, or when it takes writes again: the writer's thread ends."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(60)
            assert not self._thread.is_alive(), "the bulk writer hangs"
            self._thread, self.error = None, None

    def _run(self) -> None:
        try:
            client = NbdClient.unix(self.site.engine.nbd_socket, self.vdisk, depth=DEPTH, timeout=60.0)
        except (OSError, NbdDisconnected, NbdRefused) as exc:
            self.error = exc
            return
        pending: deque[_Piece] = deque()
        try:
            while not self._stopping.is_set():
                while len(pending) < DEPTH:
                    pending.append(self._submit(client))
                self._wait(client, pending.popleft())
            while pending:
                self._wait(client, pending.popleft())
        except (OSError, StargateError, NbdDisconnected, NbdRequestFailed) as exc:
            self.error = exc
        finally:
            client.abandon()

    def _submit(self, client: NbdClient) -> _Piece:
        while True:
            count = self._random.randint(1, self._longest)
            block = self._random.randrange(self.blocks - count + 1)
            if not any(at in self._open for at in range(block, block + count)):
                break
        self._number += 1
        for at in range(block, block + count):
            self._open[at] = self._number
        data = b"".join(stamp(WRITER, self._number, WRITER, at) for at in range(block, block + count))
        return _Piece(client.submit_write(block * BLOCK, data), block, count, self._number)

    def _wait(self, client: NbdClient, piece: _Piece) -> None:
        client.wait(piece.cookie)
        self.written += 1
        for at in range(piece.block, piece.block + piece.length):
            self._held[at] = piece.number
            del self._open[at]

    def check(self) -> None:
        """Every block holds its last acknowledged write, or one that was in flight when the engine died; from now on
        that very one. Raises AssertionError."""
        step = MiB // BLOCK
        with self.site.open(self.vdisk) as client:
            for first in range(0, self.blocks, step):
                count = min(step, self.blocks - first)
                data = client.read(first * BLOCK, count * BLOCK)
                for at in range(count):
                    self._check_block(first + at, data[at * BLOCK : (at + 1) * BLOCK])
        self._open = {}

    def _check_block(self, block: int, data: bytes) -> None:
        found = read_stamp(data, WRITER, block)
        number = found[1] if found is not None else 0
        held = self._held.get(block, 0)
        assert number == held or number == self._open.get(block, held), (
            f"bulk block {block} holds write {number}, acknowledged was {held}"
        )
        if number:
            self._held[block] = number
