# SPDX-License-Identifier: Apache-2.0
"""Fail the Nth call, for every N: each disk call of each basic operation fails once, in every way a call can fail.

Whatever the operation answered: what had been promised is there while the engine runs, after a kill and after a power
cut; an operation that reported success is whole; and the engine goes on.
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from random import Random
from typing import NamedTuple

from stargate.errors import StargateError
from stargate.units import BLOCK_BYTES, KiB
from tests.crash.explore import small_steps
from tests.crash.judge import Violation, judge
from tests.crash.medium import CrashSite, Entropy
from tests.crash.workload import Workload
from tests.engine.model import Image, Model


class Failed(Violation):
    """`number` of the call that failed."""

    number = 0


class Failure(NamedTuple):
    """How the call fails. `short`: a write stores half and says so. `some`: a failing fdatasync has stored some."""

    name: str
    error: int
    short: bool = False
    some: bool = False


FAILURES = (
    Failure("EIO", errno.EIO),
    Failure("EIO, some bytes stored", errno.EIO, some=True),
    Failure("ENOSPC", errno.ENOSPC),
    Failure("EINTR", errno.EINTR),
    Failure("short write", errno.EIO, short=True),
)

DISK, POINT, NEW = (str(uuid.UUID(int=n)) for n in (1, 2, 3))
SIZE = 200 * KiB


class Prepared(Workload):
    """A site with drained, sealed, undrained and dead data, and with half of a delivery."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, CrashSite(Random(f"{seed} site")))
        self.order(
            lambda m: m.disks.update({DISK: Image(SIZE)}), "vdisk_create", DISK, SIZE, DISK, "active", None, None
        )
        for turn in range(3):
            self.write(
                (0, 64 * KiB), (100 * KiB, 20 * KiB), (170 * KiB + turn * BLOCK_BYTES, BLOCK_BYTES), (77_777, 99)
            )
            if turn < 2:
                point = str(uuid.UUID(int=10 + turn))
                self.snapshot_of(point)
            if turn == 0:
                self.drained()
                self.folded()
        self.snapshot_of(POINT)
        self.order(lambda m: m.points.pop(str(uuid.UUID(int=10))), "snapshot_delete", str(uuid.UUID(int=10)), None)
        self.receive()
        self.receive()
        self.receive()
        self.write((8 * KiB, 8 * KiB))
        self.flush()

    def write(self, *places: tuple[int, int]) -> None:
        for offset, length in places:
            self._write(offset, self.data(length))

    def _write(self, offset: int, data: bytes) -> None:
        assert self.site.front is not None
        export, commit = self.site.front.exports.lookup(DISK), self.site.front.engine.commit
        self.change(
            lambda model: model.disks[DISK].write(offset, data),
            lambda: (export.write(offset, memoryview(data)), commit()),
        )

    def snapshot_of(self, point: str) -> None:
        self.order(
            lambda m: m.points.update({point: {DISK: m.disks[DISK].copy()}}),
            "snapshot_create",
            point,
            [DISK],
            {},
            "",
            None,
        )

    # -- the operations -----------------------------------------------------------------------------------------------

    def guest_write(self) -> None:
        self.write((20 * KiB, 12 * KiB), (64 * KiB, 64 * KiB), (3, 5000))
        self.flush()

    def guest_zero(self) -> None:
        assert self.site.front is not None
        export, commit = self.site.front.exports.lookup(DISK), self.site.front.engine.commit
        self.change(
            lambda m: m.disks[DISK].write(16 * KiB, bytes(100 * KiB)),
            lambda: (export.zero(16 * KiB, 100 * KiB, True), commit()),
        )
        self.flush()

    def fill(self) -> None:
        """Over the end of a segment, so that the log rolls."""
        for _ in range(3):
            self.write((0, 64 * KiB))
        self.flush()

    def take_snapshot(self) -> None:
        self.snapshot_of(NEW)

    def clone(self) -> None:
        source = {"snapshot": POINT, "disk": DISK}
        act: Callable[[Model], None] = lambda m: m.disks.update({NEW: m.points[POINT][DISK].copy()})  # noqa: E731
        self.order(act, "vdisk_create", NEW, 0, NEW, "active", source, None)

    def set_back(self) -> None:
        act: Callable[[Model], None] = lambda m: m.disks.update({DISK: m.points[POINT][DISK].copy()})  # noqa: E731
        self.order(act, "restore", POINT, {DISK: DISK}, True, None)

    def delete_disk(self) -> None:
        self.order(lambda m: m.disks.pop(DISK), "vdisk_delete", DISK, None)

    def drained(self) -> None:
        while self.site.drain():
            self.site.settle()

    def folded(self) -> None:
        while self.site.fold():
            self.site.settle()

    def swept(self) -> None:
        self.site.settle()
        assert self.site.store is not None
        self.site.store.sweeper.sweep()
        self.site.settle()

    def received(self) -> None:
        """The rest of the delivery, and its publication."""
        for _ in range(20):
            if self.delivery is not None:
                self.receive()

    def restarted(self) -> None:
        self._hang_up()
        self.site.kill_front()
        self.site.kill_store()
        self.site.start()


class Operation(NamedTuple):
    name: str
    run: Callable[[Prepared], None]
    ready: tuple[Callable[[Prepared], None], ...] = ()


OPERATIONS = (
    Operation("write", Prepared.guest_write),
    Operation("zero", Prepared.guest_zero),
    Operation("log roll", Prepared.fill),
    Operation("snapshot", Prepared.take_snapshot),
    Operation("clone", Prepared.clone),
    Operation("restore", Prepared.set_back),
    Operation("delete", Prepared.delete_disk),
    Operation("drain", Prepared.drained),
    Operation("fold", Prepared.folded, (Prepared.drained,)),
    Operation("sweep", Prepared.swept, (Prepared.drained, Prepared.folded)),
    Operation("checkpoint", Workload.checkpoint),  # type: ignore[arg-type]
    Operation("receive", Prepared.received),
    Operation("start", Prepared.restarted),
)


def each_call(operation: Operation, failure: Failure, seed: int, stride: int = 1) -> Iterator[int]:
    """Fails call N of the operation for N = 1, 1 + stride ... until it made fewer calls; yields each N when it was
    judged. Raises Failed."""
    for number in count(1, stride):
        with Entropy(f"{seed}").instead(), small_steps():
            if not _one(operation, failure, seed, number):
                return
        yield number


def _one(operation: Operation, failure: Failure, seed: int, number: int) -> bool:
    """False: the operation made fewer calls."""
    world = Prepared(seed)
    for step in operation.ready:
        step(world)
    world.allowed()
    site, disk = world.site, world.site.disk
    disk.fail_at, disk.error, disk.short = number, failure.error, failure.short
    disk.failed_sync = Random(number) if failure.some else None
    try:
        with suppress(StargateError, OSError):
            operation.run(world)
        made = disk.fail_at == 0
        disk.fail_at, disk.short = 0, False
        if made:
            _judge(world, number)
        return made
    except Violation as exc:
        failed = Failed(f"{failure.name} at call {number} of {operation.name}: {exc}")
        failed.number = number
        raise failed from exc
    finally:
        _end(site)


def _judge(world: Prepared, number: int) -> None:
    """While it runs; then after a kill, or after a power cut."""
    site = world.site
    allowed = world.allowed()
    if site.front is not None and site.store is not None and not site.restarts:
        try:
            found = [state.difference(site) for state in allowed]
        except (StargateError, OSError) as exc:
            found = [f"{type(exc).__name__}: {exc}"]
        if "" not in found:
            raise Violation(f"while running: {found}")
    site.restarts = 0
    world.hang_up()
    delivery = world.delivery
    if number % 2:
        judge(site.crashed(Random(number), None), allowed, delivery, Random(number))
        return
    _end(site)
    judge(site, allowed, delivery, Random(number))


def _end(site: CrashSite) -> None:
    site.kill_front()
    site.kill_store()


class Called(NamedTuple):
    """`violation` empty: none. `again`: what `--call` takes to show it."""

    calls: int
    violation: str = ""
    again: str = ""


def fail_calls(operation: int, failure: int, seed: int, stride: int) -> Called:
    """`each_call` in a process of its own, by numbers in `OPERATIONS` and `FAILURES`."""
    try:
        calls = sum(1 for _ in each_call(OPERATIONS[operation], FAILURES[failure], seed, stride))
    except Failed as exc:
        return Called(exc.number, str(exc), f"{operation}:{failure}:{exc.number} --seed {seed}")
    return Called(calls)


def one_call(operation: int, failure: int, number: int, seed: int) -> Called:
    """One of them again."""
    try:
        with Entropy(f"{seed}").instead(), small_steps():
            return Called(int(_one(OPERATIONS[operation], FAILURES[failure], seed, number)))
    except Violation as exc:
        return Called(1, str(exc))
