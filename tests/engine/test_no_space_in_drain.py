# SPDX-License-Identifier: Apache-2.0
"""A window that finds no space takes nothing back that an earlier one, or its own commit, made durable."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable
from random import Random

import pytest

from stargate.errors import NoSpace
from stargate.fs.memdisk import Op
from stargate.units import BLOCK_BYTES, KiB
from tests.engine.harness import CutDisk, Image, Model, Site, commit

SIZE = 256 * KiB
KEPT, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def _nothing(op: Op) -> bool:
    return False


class FullFor(CutDisk):
    """No space for the calls that `refused` picks."""

    refused: Callable[[Op], bool] = staticmethod(_nothing)

    def _call(self, op: Op) -> bool:
        if self.refused(op):
            raise OSError(errno.ENOSPC, "no space", op.path)
        return super()._call(op)


class Full:
    """A site with two disks; the model says what guests were told is durable."""

    def __init__(self) -> None:
        self.disk = FullFor()
        self.site = Site(Random(1), disk=self.disk)
        self.site.start()
        self.model = Model()
        for name in (KEPT, OTHER):
            self.front.orders.do_vdisk_create(name, SIZE, name, "active", None, None)
            self.model.disks[name] = Image(SIZE)

    @property
    def front(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        assert self.site.front is not None
        return self.site.front

    def write(self, name: str, offset: int, data: bytes) -> None:
        self.front.exports.lookup(name).write(offset, memoryview(data))
        commit(self.front.exports)
        self.model.disks[name].write(offset, data)
        self.site.sync()

    def drain(self) -> None:
        while self.site.drain():
            self.site.settle()

    def check(self) -> None:
        """As both halves see it now, and after both were killed."""
        self.site.settle()
        assert not self.model.difference(self.site)
        self.site.kill_front()
        self.site.kill_store()
        self.site.start()
        assert not self.model.difference(self.site)


def test_a_window_without_space_for_its_first_chunk_leaves_the_window_before_it_alone() -> None:
    full = Full()
    full.write(OTHER, 0, b"o" * BLOCK_BYTES)
    full.drain()
    full.write(KEPT, 0, b"a" * BLOCK_BYTES)
    full.drain()  # into the hot tier, and into the catalog
    full.write(KEPT, 64 * KiB, b"b" * 64 * KiB)
    full.write(KEPT, 8 * KiB, b"c" * BLOCK_BYTES)
    full.disk.refused = lambda op: op.path.startswith("egroups/") and op.name == "pwritev"
    with pytest.raises(NoSpace):
        full.site.drain()
    full.disk.refused = _nothing
    full.drain()
    full.check()


def test_a_window_without_blocks_and_without_space_for_its_frame_leaves_the_window_before_it_alone() -> None:
    full = Full()
    full.write(OTHER, 0, b"o" * BLOCK_BYTES)
    full.drain()
    full.write(KEPT, 0, b"a" * BLOCK_BYTES)
    full.drain()
    full.front.orders.do_vdisk_resize(OTHER, SIZE + BLOCK_BYTES, None)
    full.model.disks[OTHER] = full.model.disks[OTHER].copy(SIZE + BLOCK_BYTES)
    full.disk.refused = lambda op: op.path.startswith("catalog/gen") and op.name == "pwritev"
    with pytest.raises(NoSpace):
        full.site.drain()
    full.disk.refused = _nothing
    full.write(KEPT, 8 * KiB, b"c" * BLOCK_BYTES)
    full.drain()
    full.check()


def test_a_window_keeps_its_blocks_when_the_frame_behind_its_own_finds_no_space() -> None:
    """`drained` is in the catalog, the epochs that it makes superfluous cannot be dropped yet."""
    full = Full()
    full.write(OTHER, 0, b"o" * BLOCK_BYTES)
    full.drain()
    full.write(KEPT, 0, b"a" * BLOCK_BYTES)
    full.front.orders.do_vdisk_delete(OTHER, None)
    del full.model.disks[OTHER]
    frames: list[Op] = []

    def behind_the_first(op: Op) -> bool:
        if op.path.startswith("catalog/gen") and op.name == "pwritev":
            frames.append(op)
        return len(frames) > 1 and frames[-1] is op

    full.disk.refused = behind_the_first
    with pytest.raises(NoSpace):
        full.site.drain()
    assert len(frames) > 1
    full.disk.refused = _nothing
    full.write(KEPT, 8 * KiB, b"c" * BLOCK_BYTES)
    full.drain()
    full.check()
