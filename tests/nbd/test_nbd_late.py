# SPDX-License-Identifier: Apache-2.0
"""A commit that would wait for the disk: who is answered when, and the turns of the loop are counted."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

from nbd_kit import MemoryExport, MemoryExports, Running, running_with, until

from stargate.nbd.client import NbdClient
from stargate.nbd.exports import CommitLater
from stargate.units import KiB, MiB


class LateExports(MemoryExports):
    """Every second commit has to wait; what is staged is kept as its own bytes, as the engine does."""

    later = 0

    def commit(self) -> int:
        self.later += 1
        if self.later % 2 and any(export.staged for export in self.exports.values()):
            for export in self.exports.values():
                export.keep()
            threading.Timer(0.002, os.eventfd_write, (self.durable_fd, 1)).start()
            raise CommitLater
        return super().commit()


def test_it_answers_a_write_only_when_a_late_commit_took_it(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    disk, other = MemoryExport("disk", 4 * MiB), MemoryExport("other", 4 * MiB)
    with running_with(LateExports(disk, other), str(tmp_path / "nbd.sock")) as served:
        clients = [NbdClient.unix(served.path, name) for name in ("disk", "other", "disk")]
        models = {"disk": bytearray(4 * MiB), "other": bytearray(4 * MiB)}
        halves = {0: 0, 1: 0, 2: 2 * MiB}
        for _ in range(150):
            number = rng.randrange(3)
            name = ("disk", "other", "disk")[number]
            length = rng.choice([4096, 8192, 700 * KiB])
            offset = halves[number] + rng.randrange((2 * MiB - length) // 4096) * 4096
            data = rng.randbytes(length)
            clients[number].write(offset, data, fua=rng.random() < 0.2)
            models[name][offset : offset + length] = data
            assert served.exports.exports[name].content[offset : offset + length] == data
        assert disk.content == models["disk"]
        assert other.content == models["other"]
        for client in clients:
            client.close()


def test_a_client_that_leaves_with_a_late_write_stops_nobody(tmp_path: Path) -> None:
    disk = MemoryExport("disk", 4 * MiB)
    exports = LateExports(disk)
    with running_with(exports, str(tmp_path / "nbd.sock")) as served:
        leaver = NbdClient.unix(served.path, "disk")
        leaver.submit_write(0, b"\1" * 4096)
        leaver.abandon()
        until(lambda: disk.content[:4096] == b"\1" * 4096)
        until(lambda: not exports.open_now)
        with NbdClient.unix(served.path, "disk") as client:
            client.write(4096, b"\2" * 4096)
            assert client.read(0, 4096) == b"\1" * 4096


def test_it_counts_the_turns_in_which_nobody_was_served(served: Running) -> None:
    served.in_loop()
    long = served.server.turns.long
    served.server.call_soon(lambda: time.sleep(0.003))
    served.in_loop()
    served.in_loop()
    turns = served.server.turns
    assert turns.long > long
    assert turns.longest_seconds >= 0.003
    assert turns.count > turns.long
