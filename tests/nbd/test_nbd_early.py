# SPDX-License-Identifier: Apache-2.0
"""Replies that leave before the batch that they belong to has ended."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from pathlib import Path

from nbd_kit import MemoryExport, running

from stargate.nbd.client import NbdClient
from stargate.nbd.exports import Buffer
from stargate.units import KiB


class Slow(MemoryExport):
    """Its last block can be read once somebody says so."""

    def __init__(self) -> None:
        super().__init__("disk", 128 * KiB)
        self.may_go_on = threading.Event()
        self.waited = False

    def read(self, offset: int, length: int) -> Sequence[Buffer]:
        if offset + length == self.size_bytes:
            self.waited = self.may_go_on.wait(10)
        return super().read(offset, length)


def test_what_was_read_is_sent_while_the_batch_goes_on(tmp_path: Path) -> None:
    disk = Slow()
    disk.content[:] = random.Random(5).randbytes(128 * KiB)
    gate = threading.Event()
    with running(str(tmp_path / "nbd.sock"), disk) as served, NbdClient.unix(served.path, "disk") as client:
        served.server.call_soon(lambda: gate.wait(10))  # so that all of it is one batch
        cookies = [client.submit_read(at * 8 * KiB, 8 * KiB) for at in range(16)]
        gate.set()
        for at, cookie in enumerate(cookies[:12]):
            assert client.wait(cookie) == disk.content[at * 8 * KiB : (at + 1) * 8 * KiB]
        disk.may_go_on.set()
        for cookie in cookies[12:]:
            client.wait(cookie)
    assert disk.waited
