# SPDX-License-Identifier: Apache-2.0
"""What a site may show whose log lost its chain: what stands before the damage, no less."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stargate.catalog.state import State
from stargate.fs.disk import Disk
from stargate.oplog.format import BATCH_MAGIC
from stargate.oplog.slots import superblock_path
from tests.engine import harness
from tests.sim.guests import Violation
from tests.sim.site import SimSite
from tests.sim.world import World, seeded


@pytest.fixture
def world() -> Iterator[World]:
    with seeded(1):
        world = World(1, rotten=True)
        yield world
        world.close()


def _spoil(site: SimSite, path: str, start: int, stop: int) -> None:
    site.log_rotten = True
    node = site.disk._node(path)
    for data in (node.data, node.durable):
        data[start:stop] = bytes(len(data[start:stop]))


def _lose_superblock(site: SimSite) -> None:
    _spoil(site, superblock_path("oplog"), 0, 1 << 20)


def _lose_last_batch(site: SimSite) -> None:
    """Its header; what follows it says that it was durable."""
    path = "oplog/slot-0000"
    at = bytes(site.disk._node(path).data).rfind(BATCH_MAGIC)
    site.guests.snapshot()
    _spoil(site, path, at, at + len(BATCH_MAGIC))


def _history(site: SimSite, *, drain: bool) -> None:
    """A disk and two snapshots."""
    site.guests.create()
    site.guests.snapshot()
    if drain:
        while site.drain():
            site.settle()
    site.guests.snapshot()


def _damaged(site: SimSite) -> bool:
    return site.front is not None and site.front.engine.damage is not None


def test_a_log_that_is_lost_before_its_first_drain_may_take_all_disks_with_it(world: World) -> None:
    site = world.sites[0]
    _history(site, drain=False)
    _lose_superblock(site)
    world.crash(site)
    assert _damaged(site)
    assert site.front is not None
    assert not site.front.engine.state.vdisks


def test_what_was_drained_is_shown_although_the_log_is_lost(world: World) -> None:
    site = world.sites[0]
    _history(site, drain=True)
    _lose_superblock(site)
    world.crash(site)
    assert _damaged(site)
    assert site.front is not None
    assert len(site.front.engine.state.snapshots) == 1


def test_a_front_that_hides_what_was_drained_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(disk: Disk) -> State:
        real = harness_load(disk)
        return State(n=real.n, log_id=real.log_id, covered=real.covered)

    harness_load = harness.load_state
    monkeypatch.setattr(harness, "load_state", forgetful)
    site = world.sites[0]
    _history(site, drain=True)
    _lose_superblock(site)
    with pytest.raises(Violation, match="no state that it may"):
        world.crash(site)


def test_a_front_that_hides_what_stands_in_the_log_before_the_damage_is_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = world.sites[0]
    _history(site, drain=False)
    _lose_last_batch(site)
    monkeypatch.setattr(harness, "replay", lambda engine, batches: None)
    with pytest.raises(Violation, match="no state that it may"):
        world.crash(site)


def test_a_state_that_a_power_cut_took_is_no_part_of_the_history(world: World) -> None:
    site = world.sites[0]
    _history(site, drain=False)
    guests = site.guests
    kept = guests.model
    guests.change(lambda model: model.disks.clear(), lambda: None)  # of which nothing gets into the log
    world.crash(site)
    assert guests.states == [kept]
    assert all(state.disks for state in guests.history[1:])
