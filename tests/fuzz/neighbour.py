# SPDX-License-Identifier: Apache-2.0
"""A well-behaved client beside the attack: 4-KiB writes and reads, each read checked, counted as they go."""

from __future__ import annotations

import multiprocessing
from collections import deque
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from random import Random

from stargate.nbd.client import NbdClient
from stargate.units import BLOCK_BYTES

DEPTH = 4
BLOCKS = 2048


class Neighbour:
    """Runs in a process of its own until `stop`. `count` grows by one for each finished request."""

    def __init__(self, socket_path: Path, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._count: Synchronized[int] = context.Value("q", 0)
        self._ended: Synchronized[int] = context.Value("b", 0)
        self._errors = context.SimpleQueue()
        args = (socket_path, seed, self._count, self._ended, self._errors)
        self._process = context.Process(target=_work, args=args, daemon=True)
        self._process.start()

    @property
    def count(self) -> int:
        return int(self._count.value)

    def stop(self) -> list[str]:
        """What went wrong; waits for the last check of all blocks."""
        self._ended.value = 1
        self._process.join(60)
        if self._process.exitcode is None:
            self._process.kill()
            return ["the neighbour did not get its answers"]
        found = [] if self._errors.empty() else [str(self._errors.get())]
        return found or ([] if self._process.exitcode == 0 else [f"the neighbour ended with {self._process.exitcode}"])


def _work(path: Path, seed: int, count: Synchronized[int], ended: Synchronized[int], errors: object) -> None:
    try:
        with NbdClient.unix(path, "neighbour") as client:
            _loop(client, Random(seed), count, ended)
    except Exception as exc:
        errors.put(f"the neighbour met {exc!r}")  # type: ignore[attr-defined]


def _loop(client: NbdClient, rng: Random, count: Synchronized[int], ended: Synchronized[int]) -> None:
    held: dict[int, bytes] = {}
    busy: deque[tuple[int, int, bytes | None]] = deque()  # cookie, block, bytes expected of a read
    while not ended.value:
        block = rng.randrange(BLOCKS)
        if all(block != other for _, other, _ in busy):
            if rng.random() < 0.5:
                data = rng.randbytes(8) * (BLOCK_BYTES // 8)
                busy.append((client.submit_write(block * BLOCK_BYTES, data), block, None))
                held[block] = data
            else:
                cookie = client.submit_read(block * BLOCK_BYTES, BLOCK_BYTES)
                busy.append((cookie, block, held.get(block, bytes(BLOCK_BYTES))))
        if len(busy) >= DEPTH:
            _finish(client, *busy.popleft())
            count.value += 1
    while busy:
        _finish(client, *busy.popleft())
    for block in range(BLOCKS):
        if client.read(block * BLOCK_BYTES, BLOCK_BYTES) != held.get(block, bytes(BLOCK_BYTES)):
            raise ValueError(f"block {block} is not what was written")


def _finish(client: NbdClient, cookie: int, block: int, expected: bytes | None) -> None:
    found = client.wait(cookie)
    if expected is not None and found != expected:
        raise ValueError(f"block {block} is not what was written")
