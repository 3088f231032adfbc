# SPDX-License-Identifier: Apache-2.0
"""Every disk call of a step fails once: nothing acknowledged is lost, a failed fsync is never believed (D3)."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random

import pytest

from stargate.errors import LogFrozen, NoSpace, StargateError
from stargate.front import link
from stargate.store import hub, sweep
from stargate.units import BLOCK_BYTES, KiB
from tests.engine.harness import Image, Model, Site, commit

SIZE = 400 * KiB


class Prepared:
    """A site with a drained, a sealed and an undrained part; the model says what is durable."""

    def __init__(self) -> None:
        self.site = Site(Random(7))
        self.site.start()
        self.model = Model()
        self.name = str(uuid.UUID(int=1))
        front = self.front
        front.orders.do_vdisk_create(self.name, SIZE, self.name, "active", None, None)
        self.model.disks[self.name] = Image(SIZE)
        for turn in range(3):
            for offset, length in (
                (0, 64 * KiB),
                (100 * KiB, 20 * KiB),
                (200 * KiB + turn * 4096, 4096),
                (300 * KiB, 30),
            ):
                self.write(offset, bytes([turn + 1]) * length)
            front.exports.lookup(self.name).zero(4096 * turn, 4096, True)
            commit(front.exports)
            self.model.disks[self.name].write(4096 * turn, bytes(4096))
            if turn < 2:
                self.snapshot(uuid.UUID(int=10 + turn))
            if turn == 0:
                self.site.drain()
                self.site.fold()
                self.site.settle()
        self.site.sync()

    @property
    def front(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        assert self.site.front is not None
        return self.site.front

    def write(self, offset: int, data: bytes) -> None:
        self.front.exports.lookup(self.name).write(offset, memoryview(data))
        commit(self.front.exports)
        self.model.disks[self.name].write(offset, data)

    def snapshot(self, point: uuid.UUID) -> None:
        self.front.orders.do_snapshot_create(str(point), [self.name], {}, "", None)
        self.model.points[str(point)] = {self.name: self.model.disks[self.name].copy()}

    # -- steps of the store ---

    def drain(self) -> None:
        while self.site.drain():
            self.site.settle()

    def fold(self) -> None:
        while self.site.fold():
            pass

    def checkpoint(self) -> None:
        assert self.site.store is not None
        for number in range(4):
            self.site.store.hub.commit({"op": "sweep", "sweep": number})

    def sweep(self) -> None:
        assert self.site.store is not None
        self.site.settle()
        self.site.store.sweeper.sweep()
        self.site.settle()

    def reuse(self) -> None:
        """Folded regions are freed and written to again."""
        self.site.settle()
        for turn in range(3):
            for block in range(0, 90, 3):
                self.write(block * BLOCK_BYTES, bytes([turn + 60]) * BLOCK_BYTES)
            self.site.sync()
            self.drain()

    def restart(self) -> None:
        self.site.kill_store()
        self.site.start_store()
        self.site.connect()


def each_call(step: str, code: int, ready: Callable[[Prepared], None]) -> Iterator[tuple[int, Prepared]]:
    """(N, site after the step) for every N; for long steps, and for the other kind of error, for some of them."""
    stride = {"reuse": 17}.get(step, 1) * (1 if code == errno.EIO else 4)
    number = 1 + Random().randrange(stride)
    while True:
        prepared = Prepared()
        ready(prepared)
        disk = prepared.site.disk
        disk.fail_at, disk.error = number, code
        with suppress(StargateError, OSError):
            getattr(prepared, step)()
        if disk.fail_at:
            disk.fail_at = 0
            assert number > 3, "the step made no calls"
            return
        yield number, prepared
        number += stride


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SLICE_ENTRIES", 3)
    monkeypatch.setattr(sweep, "FRONT_SECONDS", 0.0)


READY: dict[str, Callable[[Prepared], None]] = {
    "drain": lambda p: None,
    "fold": Prepared.drain,
    "checkpoint": lambda p: None,
    "sweep": lambda p: (p.drain(), p.fold(), None)[-1],
    "reuse": lambda p: (p.drain(), p.fold(), None)[-1],
}


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("step", list(READY))
def test_each_failing_call_of_a_step_costs_nothing_acknowledged(
    step: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if step == "checkpoint":
        monkeypatch.setattr(hub, "CHECKPOINT_OPS", 3)
    for number, prepared in each_call(step, code, READY[step]):
        site, what = prepared.site, f"call {number} of {step}"
        if site.front is not None and site.front.engine.log.frozen is None and not site.restarts:
            try:
                found = prepared.model.difference(site)
            except LogFrozen:
                found = ""
            assert found == "" or step == "reuse", f"{what}: while running: {found}"
        site.restarts = 0
        if number % 2:
            site.kill_front()
            site.kill_store()
        else:
            site.power_cut()
        site.start()
        if step != "reuse":  # there the front's own write may have failed
            assert prepared.model.difference(site) == "", what
        prepared.drain()
        prepared.fold()
        site.settle()
        if step != "reuse":
            assert prepared.model.difference(site) == "", what
        points = Model({}, prepared.model.points)
        for point, members in points.points.items():
            for disk, image in members.items():
                assert site.content(f"snapshot:{point}:{disk}") == image.bytes(), what


def test_after_a_failed_fsync_the_log_takes_and_confirms_nothing() -> None:
    prepared = Prepared()
    site = prepared.site
    prepared.write(0, b"n" * BLOCK_BYTES)
    site.disk.fail_fsync = errno.EIO
    with pytest.raises(LogFrozen):
        site.sync()
    site.disk.fail_fsync = 0
    for _ in range(2):
        with pytest.raises(LogFrozen):
            site.sync()
    with pytest.raises(LogFrozen):
        prepared.write(0, b"m" * BLOCK_BYTES)
    with pytest.raises(LogFrozen):
        prepared.snapshot(uuid.UUID(int=99))
    assert site.content(prepared.name)[:4] == b"nnnn", "reads go on"
    site.power_cut()
    site.start()
    assert site.content(prepared.name)[:4] in (b"nnnn", b"\3\3\3\3")


@pytest.mark.parametrize("step", ["drain", "fold"])
def test_a_store_whose_fsync_failed_believes_nothing_and_recovers_after_a_restart(step: str) -> None:
    prepared = Prepared()
    if step == "fold":
        prepared.drain()
    site = prepared.site
    site.disk.fail_fsync = errno.EIO
    with pytest.raises(StargateError):
        getattr(prepared, step)()
    site.disk.fail_fsync = 0
    with pytest.raises((StargateError, OSError)):
        getattr(prepared, step)()
    assert prepared.model.difference(site) == ""
    prepared.restart()
    getattr(prepared, step)()
    site.power_cut()
    site.start()
    assert prepared.model.difference(site) == ""


def test_a_full_disk_stops_the_drain_and_nothing_else_until_there_is_space() -> None:
    prepared = Prepared()
    site = prepared.site
    used = sum(len(data) for data in site.disk.snapshot().values())
    site.disk.capacity_bytes = used + 8 * KiB
    with pytest.raises(NoSpace):
        prepared.drain()
    assert prepared.model.difference(site) == ""
    site.disk.capacity_bytes = None
    prepared.drain()
    prepared.fold()
    site.settle()
    assert prepared.model.difference(site) == ""
