# SPDX-License-Identifier: Apache-2.0
"""Two paired sites with data in every part of the engine, kept as bytes so that each case starts from the same ones."""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass, field
from random import Random

from stargate.extents.index import MemoryIndex
from stargate.units import BLOCK_BYTES, KiB
from tests.engine.harness import CutDisk, Site, commit
from tests.engine.test_halves import drained, snapshot
from tests.scrub.world import Member, World

SIZE_BYTES = 512 * KiB


@dataclass
class Image:
    """A stopped site: its files, its index, and what its exports must hold."""

    site_id: str
    files: dict[str, bytes]
    index: MemoryIndex
    expected: dict[str, bytes]

    def load(self, rng: Random) -> Member:
        """The site again, not started."""
        site = Site(rng)
        disk = CutDisk()
        for path, data in self.files.items():
            folder = path.rpartition("/")[0]
            disk.mkdir(folder)
            file = disk.open(path, create=True)
            file.pwritev([data], 0)
            file.fdatasync()
            file.close()
            disk.sync_dir(folder)
        site.disk, site.index = disk, copy.deepcopy(self.index)
        return Member(site, self.site_id)


@dataclass
class Base:
    """Images of both sites after one random history."""

    rng: Random
    images: list[Image] = field(init=False)

    def __post_init__(self) -> None:
        world = World(self.rng)
        for source, target in ((world.a, world.b), (world.b, world.a)):
            self._history(world, source, target)
        self.images = [self._image(member) for member in (world.a, world.b)]

    def _history(self, world: World, source: Member, target: Member) -> None:
        """Shared and own snapshots, then data that was folded, drained and left in the log, in this order."""
        disks = [self._create(source) for _ in range(2)]
        for disk in disks:
            self._write(source, disk, self.rng.randrange(8, 16), whole=True)
            drained(source.site)
        shared = self._snapshot(source, disks)
        world.replicate(source, target, shared)
        for disk in disks:
            self._write(source, disk, self.rng.randrange(2, 12), whole=self.rng.random() < 0.5)
            drained(source.site)
        if self.rng.random() < 0.7:
            self._snapshot(source, disks[:1])
        for disk in disks:
            self._write(source, disk, self.rng.randrange(2, 12), whole=False)
        drained(source.site)
        if self.rng.random() < 0.5:
            snapshot(source.site, *disks)
        for disk in disks:
            self._write(source, disk, self.rng.randrange(1, 12), whole=self.rng.random() < 0.3)

    def _create(self, member: Member) -> str:
        assert member.site.front is not None
        name = str(uuid.UUID(int=self.rng.getrandbits(128)))
        member.site.front.orders.do_vdisk_create(name, SIZE_BYTES, name, "active", None, None)
        return name

    def _write(self, member: Member, disk: str, count: int, *, whole: bool) -> None:
        """Random runs; whole chunks, or a few blocks each."""
        assert member.site.front is not None
        export = member.site.front.exports.lookup(disk)
        for _ in range(count):
            blocks = 16 if whole else self.rng.randrange(1, 5)
            first = self.rng.randrange(SIZE_BYTES // BLOCK_BYTES // blocks) * blocks
            # Some of it compresses, so that both codecs are met.
            data = self.rng.randbytes(blocks * BLOCK_BYTES // 4) * 4 if self.rng.random() < 0.3 else None
            data = data or self.rng.randbytes(blocks * BLOCK_BYTES)
            export.write(first * BLOCK_BYTES, memoryview(data))
            commit(member.site.front.exports)
        member.site.sync()

    def _snapshot(self, member: Member, disks: list[str]) -> str:
        point = snapshot(member.site, *disks)
        drained(member.site)
        while member.site.fold():
            member.site.settle()
        return point

    def _image(self, member: Member) -> Image:
        site = member.site
        site.settle()
        expected = {name: site.content(name) for name in exports(site)}
        member.stop()
        return Image(member.site_id, site.disk.snapshot(), site.index, expected)


def exports(site: Site) -> list[str]:
    assert site.front is not None
    state = site.front.engine.state
    points = [f"snapshot:{name}:{m.disk}" for name, found in state.snapshots.items() for m in found.members]
    return sorted(state.vdisks) + sorted(points)
