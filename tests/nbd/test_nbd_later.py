# SPDX-License-Identifier: Apache-2.0
"""Long reads are fetched beside the loop: others do not wait for them, and nothing is lost when they fail."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from stargate.errors import DamagedData
from stargate.nbd.client import NbdClient
from stargate.nbd.connection import LATER_BYTES_MAX
from stargate.nbd.exports import Buffer
from stargate.nbd.link import NbdRequestFailed
from stargate.nbd.stage import LATER_BYTES
from stargate.units import KiB, MiB
from tests.nbd.nbd_kit import MemoryExport, running, until

LONG = LATER_BYTES


class Later(MemoryExport):
    """Long reads wait until somebody says so, and fail as long as they are told to."""

    def __init__(self, size_bytes: int = 16 * MiB) -> None:
        super().__init__("disk", size_bytes)
        self.content[:] = random.Random(7).randbytes(size_bytes)
        self.may_go_on = threading.Event()
        self.fails: BaseException | None = None
        self.begun = 0
        self.threads: set[str] = set()

    def read_later(self, offset: int, length: int) -> Callable[[], Sequence[Buffer]] | None:
        self.begun += 1

        def job() -> Sequence[Buffer]:
            self.threads.add(threading.current_thread().name)
            assert self.may_go_on.wait(20)
            if self.fails is not None:
                raise self.fails
            return [bytes(self.content[offset : offset + length])]

        return job


def test_short_reads_do_not_wait_for_long_ones(tmp_path: Path) -> None:
    disk = Later()
    with running(str(tmp_path / "nbd.sock"), disk) as served, NbdClient.unix(served.path, "disk") as client:
        long = client.submit_read(0, LONG)
        short = client.submit_read(MiB, 4 * KiB)
        assert client.wait(short) == disk.content[MiB : MiB + 4 * KiB]
        assert not disk.may_go_on.is_set()
        disk.may_go_on.set()
        assert client.wait(long) == disk.content[:LONG]
    assert disk.threads == {"reads"}


@pytest.mark.parametrize("fails", [DamagedData("moved meanwhile"), RuntimeError("a mistake of ours")])
def test_what_fails_beside_the_loop_is_read_in_it(tmp_path: Path, fails: Exception) -> None:
    disk = Later()
    disk.fails = fails
    disk.may_go_on.set()
    with running(str(tmp_path / "nbd.sock"), disk) as served, NbdClient.unix(served.path, "disk") as client:
        assert client.read(0, LONG) == disk.content[:LONG]
        disk.read_error = DamagedData("damaged at its new place, too")
        with pytest.raises(NbdRequestFailed, match="error 5"):
            client.read(0, LONG)
        disk.read_error = disk.fails = None
        assert client.read(LONG, LONG) == disk.content[LONG : 2 * LONG]


def test_a_client_gets_no_more_under_way_than_the_bound(tmp_path: Path) -> None:
    disk = Later()
    bound = LATER_BYTES_MAX // LONG
    places = [at % (disk.size_bytes // LONG) * LONG for at in range(3 * bound)]
    with running(str(tmp_path / "nbd.sock"), disk) as served, NbdClient.unix(served.path, "disk") as client:
        cookies = [client.submit_read(place, LONG) for place in places]
        until(lambda: disk.begun == bound)
        with NbdClient.unix(served.path, "disk") as other:  # and the loop serves others, without haste
            before = served.server.turns.count
            assert other.read(0, 4 * KiB) == disk.content[: 4 * KiB]
            assert served.server.turns.count - before < 50
        assert disk.begun == bound
        disk.may_go_on.set()
        for place, cookie in zip(places, cookies, strict=True):
            assert client.wait(cookie) == disk.content[place : place + LONG]


def test_a_client_that_leaves_takes_nobody_along(tmp_path: Path) -> None:
    disk = Later()
    with running(str(tmp_path / "nbd.sock"), disk) as served:
        gone = NbdClient.unix(served.path, "disk")
        gone.submit_read(0, LONG)
        until(lambda: bool(disk.threads))
        gone.abandon()
        disk.may_go_on.set()
        with NbdClient.unix(served.path, "disk") as client:
            assert client.read(LONG, LONG) == disk.content[LONG : 2 * LONG]


def test_replies_under_way_are_sent_before_a_disconnect(tmp_path: Path) -> None:
    disk = Later()
    with running(str(tmp_path / "nbd.sock"), disk) as served, NbdClient.unix(served.path, "disk") as client:
        cookie = client.submit_read(0, LONG)
        until(lambda: bool(disk.threads))
        left = served.server.disconnect("disk", after_flush=True)
        served.in_loop()
        assert not left.done()
        disk.may_go_on.set()
        assert client.wait(cookie) == disk.content[:LONG]
        assert left.result(20) == 1
