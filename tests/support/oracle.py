# SPDX-License-Identifier: Apache-2.0
"""The oracle: writers that stamp every block and journal when each write was issued and acknowledged.

A stamp is (writer, number, disk, block) plus filler made from it, so any block read back tells which write it holds,
or that it is
torn. A *point* (snapshot, clone, restored disk, the other site) is judged against the journal:

* it holds every write acknowledged before the order was given and none issued after it returned;
* it is a prefix of each writer's sequence over all disks of the group;
* it is one point in time across writers: no missing write was acknowledged before a present one was issued.
"""

from __future__ import annotations

import random
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stargate.errors import StargateError
from stargate.nbd.client import NbdClient
from stargate.nbd.link import NbdDisconnected, NbdRequestFailed

BLOCK = 4096
_STAMP = struct.Struct("<8sIQII")
_MAGIC = b"ORACLE01"


def stamp(writer: int, number: int, disk: int, block: int) -> bytes:
    head = _STAMP.pack(_MAGIC, writer, number, disk, block)
    return head * (BLOCK // len(head)) + head[: BLOCK % len(head)]


def read_stamp(data: bytes, disk: int, block: int) -> tuple[int, int] | None:
    """(writer, number) of a block, None for zeros. Raises AssertionError for torn, foreign or misplaced bytes."""
    if data.count(0) == len(data):
        return None
    magic, writer, number, found_disk, found_block = _STAMP.unpack_from(data)
    assert magic == _MAGIC, f"disk {disk} block {block} holds bytes nobody wrote"
    assert (found_disk, found_block) == (disk, block), (
        f"{disk}/{block} holds what was written to {found_disk}/{found_block}"
    )
    assert data == stamp(writer, number, disk, block), f"disk {disk} block {block} is torn"
    return writer, number


@dataclass(slots=True)
class Write:
    number: int
    disk: int
    block: int
    issued: float
    acknowledged: float | None = None


@dataclass(slots=True)
class Journal:
    """What one writer did, in order. Only this writer writes its blocks: `block % writers == writer`."""

    writer: int
    writes: list[Write] = field(default_factory=list)


class StampedWriter(threading.Thread):
    """Writes one block at a time, each only after the one before was acknowledged, over all disks of a group."""

    def __init__(
        self,
        writer: int,
        writers: int,
        connect: Callable[[int], NbdClient],
        disks: int,
        blocks: int,
        *,
        seed: int,
        flush_every: int = 0,
        start_number: int = 1,
        pace_seconds: float = 0.0,
        fua_every: int = 0,
    ) -> None:
        super().__init__(name=f"writer-{writer}", daemon=True)
        self.journal = Journal(writer)
        self._writers = writers
        self._connect = connect
        self._disks = disks
        self._blocks = blocks
        self._random = random.Random(f"{seed}-{writer}-{start_number}")
        self._flush_every = flush_every
        self._fua_every = fua_every
        self._number = start_number
        self._pace_seconds = pace_seconds
        self._stop_asked = threading.Event()
        self.error: Exception | None = None
        self.durable_number = 0  # every write up to this one was acknowledged before an acknowledged flush on its disk

    def run(self) -> None:
        clients: dict[int, NbdClient] = {}
        try:
            for disk in range(self._disks):
                clients[disk] = self._connect(disk)
            while not self._stop_asked.wait(self._pace_seconds):
                self._write(clients)
        except (OSError, StargateError, NbdDisconnected, NbdRequestFailed) as exc:
            self.error = exc
        finally:
            for client in clients.values():
                client.abandon()

    def _write(self, clients: dict[int, NbdClient]) -> None:
        disk = self._random.randrange(self._disks)
        block = self._random.randrange(self._blocks // self._writers) * self._writers + self.journal.writer
        write = Write(self._number, disk, block, time.monotonic())
        self.journal.writes.append(write)
        fua = bool(self._fua_every) and write.number % self._fua_every == 0
        clients[disk].write(block * BLOCK, stamp(self.journal.writer, write.number, disk, block), fua=fua)
        write.acknowledged = time.monotonic()
        self._number += 1
        if self._flush_every and write.number % self._flush_every == 0:
            for client in clients.values():
                client.flush()
            self.durable_number = write.number

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(30)
        assert not self.is_alive(), "a writer hangs"


def wait_writes(writers: Sequence[StampedWriter], count: int, seconds: float = 30.0) -> None:
    """Until each writer has `count` acknowledged writes more than now."""
    goals = [len(w.journal.writes) + count for w in writers]
    deadline = time.monotonic() + seconds
    for writer, goal in zip(writers, goals, strict=True):
        while len(writer.journal.writes) < goal:
            assert writer.error is None, f"writer failed: {writer.error!r}"
            assert time.monotonic() < deadline, "writers make no progress"
            time.sleep(0.005)


def judge(
    read: Callable[[int, int], bytes],
    journals: Sequence[Journal],
    disks: int,
    blocks: int,
    *,
    ordered_at: float,
    returned_at: float,
) -> dict[int, int]:
    """Check a point; `read(disk, block)` gives its bytes. Returns writer -> number of the last write it holds."""
    last: dict[int, int] = {j.writer: 0 for j in journals}
    held: dict[tuple[int, int], int] = {}
    for disk in range(disks):
        for block in range(blocks):
            found = read_stamp(read(disk, block), disk, block)
            if found is not None:
                held[disk, block] = found[1]
                last[found[0]] = max(last[found[0]], found[1])
    for journal in journals:
        _judge_writer(journal, last[journal.writer], held, ordered_at, returned_at)
    _judge_instant(journals, last)
    return last


def _judge_writer(
    journal: Journal, last: int, held: dict[tuple[int, int], int], ordered_at: float, returned_at: float
) -> None:
    expected: dict[tuple[int, int], set[int]] = {}
    for write in journal.writes:
        if write.number <= last:
            # one that was in flight when its server died may be there or not
            older = expected.get((write.disk, write.block), {0}) if write.acknowledged is None else set()
            expected[write.disk, write.block] = {write.number} | older
            assert write.issued <= returned_at, (
                f"write {write.number} is there, but was issued after the order returned"
            )
        elif write.acknowledged is not None:
            assert write.acknowledged > ordered_at, f"write {write.number}, acknowledged before the order, is missing"
    for place, numbers in expected.items():
        found = held.get(place, 0)
        assert found in numbers, f"{place} holds write {found} of writer {journal.writer}, not {numbers}: no prefix"


def _judge_instant(journals: Sequence[Journal], last: dict[int, int]) -> None:
    newest_present = max((w.issued for j in journals for w in j.writes if w.number <= last[j.writer]), default=0.0)
    for journal in journals:
        for write in journal.writes:
            if write.number > last[journal.writer] and write.acknowledged is not None:
                assert write.acknowledged >= newest_present, (
                    f"write {write.number} of writer {journal.writer} is missing, "
                    "although it was acknowledged before a present one was issued"
                )
