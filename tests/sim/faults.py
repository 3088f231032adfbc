# SPDX-License-Identifier: Apache-2.0
"""What goes wrong, as rows of the same kind as the actions. Each seed draws which of them it meets."""

from __future__ import annotations

import errno
from typing import Literal

from stargate.extents.egroups import path_of
from stargate.extents.format import extent_bytes
from stargate.extents.index import Change, MemoryIndex
from stargate.memtransport import Fault, Spoil
from stargate.units import BLOCK_BYTES
from tests.sim.actions import Action
from tests.sim.mangle import Mangle, MangleKind
from tests.sim.site import SimSite
from tests.sim.world import World

LINK_BYTES = 300_000
"""About what a transfer moves at most; faults lie anywhere below, early ones as often as late ones."""

LINKS: tuple[Literal["cut", "stall", "vanish"], ...] = ("cut", "stall", "vanish")
MANGLES: tuple[MangleKind, ...] = ("double", "swap", "drop", "flip")


def power_cut(world: World, site: SimSite) -> None:
    """At once, or in the midst of what comes next: of the guests', the store's, or a peer's work."""
    if world.rng.random() < 0.3:
        site.disk.off = True
    else:
        site.disk.cut_at = world.rng.choice([1, 2, 3, 5, 8, 13, 30, 80, 200])


def power_cut_everywhere(world: World, site: SimSite) -> None:
    for one in world.sites:
        one.disk.off = not one.lost


def kill(world: World, site: SimSite) -> None:
    """kill -9 of a half, or of both."""
    which = world.rng.choice(["front", "store", "both"])
    world.restart(site, front=which != "store", store=which != "front")


def away(world: World, site: SimSite) -> None:
    """The store is dead for a while: guests are served from log, hot tier and extents."""
    site.kill_store()
    for _ in range(world.rng.randint(1, 4)):
        site.guests.batch()
    world.restart(site, front=False, store=True)


def index_lost(world: World, site: SimSite) -> None:
    """Somebody deletes the index while the site is down; it is a cache."""
    site.kill_front()
    site.kill_store()
    site.index = MemoryIndex()
    world.restart(site, front=True, store=True)


def line_cut(world: World, site: SimSite) -> None:
    """The line between the halves breaks, with whatever is on it."""
    if site.front is not None and site.store is not None:
        site.connect()


def bad_link(world: World, site: SimSite) -> None:
    """The next connection between sites is cut, stalls or vanishes at some byte of either way, is slow, or crumbles."""
    rng = world.rng

    def fault(most: int) -> Fault | None:
        return Fault(rng.choice(LINKS), int(most ** rng.random())) if rng.random() < 0.7 else None

    slices, rate = rng.choice([None, None, 100, 1500]), rng.choice([None, 100_000])
    world.network.spoil_next(Spoil(up=fault(LINK_BYTES), down=fault(3_000), slice_bytes=slices, bytes_per_second=rate))


def mangled_frame(world: World, site: SimSite) -> None:
    world.network.mangle_next = Mangle(world.rng.choice(MANGLES), int(30 ** world.rng.random()) - 1)


def clock_jump(world: World, site: SimSite) -> None:
    """Forwards or backwards, by seconds or years."""
    world.clock.jump(world.rng.choice([-1, 1]) * 10 ** world.rng.uniform(0, 8))


def failing_call(world: World, site: SimSite) -> None:
    """The Nth call of the disk from now fails, or stores half of what it was given."""
    disk, rng = site.disk, world.rng
    disk.excused = True
    disk.fail_at = int(60 ** rng.random())
    disk.error = rng.choice([errno.EIO, errno.ENOSPC])
    disk.short = rng.random() < 0.2


def failing_fsync(world: World, site: SimSite) -> None:
    """From now on no fsync works, until the halves were started again (D3)."""
    site.disk.excused = True
    site.disk.fail_fsync = errno.EIO


def full_disk(world: World, site: SimSite) -> None:
    """No space but a little."""
    disk = site.disk
    disk.excused = True
    used = sum(len(data) for data in disk.snapshot().values())
    disk.capacity_bytes = used + world.rng.choice([0, 10_000, 400_000])


def space_again(world: World, site: SimSite) -> None:
    site.disk.capacity_bytes = None


FAULTS = (
    Action("power_cut", 3, power_cut),
    Action("power_cut_everywhere", 0.5, power_cut_everywhere),
    Action("kill", 2, kill),
    Action("away", 1, away),
    Action("index_lost", 0.7, index_lost),
    Action("line_cut", 2, line_cut),
    Action("bad_link", 6, bad_link),
    Action("mangled_frame", 2, mangled_frame),
    Action("clock_jump", 1, clock_jump),
    Action("failing_call", 1.5, failing_call),
    Action("failing_fsync", 0.5, failing_fsync),
    Action("full_disk", 0.5, full_disk),
    Action("space_again", 1, space_again),
)


# -- rot: seeds of their own, for what a site may do then is another matter -------------------------------------------


def _some_file(world: World, site: SimSite) -> tuple[str, int] | None:
    files = [(path, len(data)) for path, data in sorted(site.disk.snapshot().items()) if data]
    if not files:
        return None
    found = world.rng.choice(files)
    site.catalog_rotten = site.catalog_rotten or found[0].startswith("catalog")
    site.log_rotten = site.log_rotten or site.catalog_rotten or found[0].startswith("oplog")
    return found


def flipped_bit(world: World, site: SimSite) -> None:
    found = _some_file(world, site)
    if found is not None:
        site.disk.flip(found[0], world.rng.randrange(found[1]), 1 << world.rng.randrange(8))


def zeroed_range(world: World, site: SimSite) -> None:
    found = _some_file(world, site)
    if found is not None:
        _zero(world, site, *found)


def _zero(world: World, site: SimSite, path: str, size: int) -> None:
    start = world.rng.randrange(size)
    node = site.disk._node(path)
    length = world.rng.choice([1, 512, BLOCK_BYTES, 10 * BLOCK_BYTES])
    for data in (node.data, node.durable):
        stop = min(len(data), start + length)
        data[start:stop] = bytes(max(0, stop - start))


ROT = (
    Action("flipped_bit", 1.5, flipped_bit),
    Action("zeroed_range", 1, zeroed_range),
)


# -- rot that never touches log or catalog: no site may be lost to it, and what the other one has must come back -------


def rotten_store(world: World, site: SimSite) -> None:
    """A bit or a range of an extent group or of the hot tier."""
    files = sorted(site.disk.snapshot().items())
    found = [(path, len(data)) for path, data in files if data and path.startswith(("egroups/", "hot/"))]
    if not found:
        return
    path, size = world.rng.choice(found)
    if world.rng.random() < 0.3:
        _zero(world, site, path, size)
    else:
        site.disk.flip(path, world.rng.randrange(size), 1 << world.rng.randrange(8))


def rotten_extent(world: World, site: SimSite) -> None:
    """A bit of something that the index names."""
    entries = sorted(site.index.items())
    if entries:
        _, at = world.rng.choice(entries)
        where = at.offset + world.rng.randrange(extent_bytes(at.stored_bytes))
        if site.disk.exists(path_of(at.egroup)) and where < len(site.disk._node(path_of(at.egroup)).data):
            site.disk.flip(path_of(at.egroup), where, 1 << world.rng.randrange(8))


def rotten_index(world: World, site: SimSite) -> None:
    """An entry vanishes, or says where something else lies."""
    entries = sorted(site.index.items())
    if entries:
        digest, _ = world.rng.choice(entries)
        if world.rng.random() < 0.5:
            site.index.commit(Change(deletes=[digest]))
        else:
            site.index.commit(Change(puts=[(digest, world.rng.choice(entries)[1])]))


def lying_peer(world: World, site: SimSite) -> None:
    """A site that is asked for copies gives other bytes than it says."""
    site.lies = world.rng.randint(1, 3)


MENDABLE = (
    Action("rotten_store", 1.5, rotten_store),
    Action("rotten_extent", 3, rotten_extent),
    Action("rotten_index", 1, rotten_index),
    Action("lying_peer", 1, lying_peer),
)
