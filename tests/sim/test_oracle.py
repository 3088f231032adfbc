# SPDX-License-Identifier: Apache-2.0
"""What a site may show whose log lost its chain: what stands before the damage, no less. And what it may turn out to
hold where damage hid which of several states it was.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stargate.catalog.state import State
from stargate.fs.disk import Disk
from stargate.oplog.format import BATCH_MAGIC
from stargate.oplog.superblock import SUPERBLOCK_FILES
from stargate.units import BLOCK_BYTES
from tests.engine import harness
from tests.engine.model import Found, Image, Model, merged
from tests.sim import oracle
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
    for name in SUPERBLOCK_FILES:
        _spoil(site, f"oplog/{name}", 0, 1 << 20)


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


def _note(site: SimSite, *, kept: bool) -> None:
    """A power cut leaves of the note of the durable position what is on the disk, or nothing."""
    node = site.disk._node("oplog/durable")
    node.durable = bytearray(node.data if kept else b"")
    node.pending.clear()
    if not kept:
        node.data[:] = b""


def _rotten_end(site: SimSite) -> None:
    """The last batch rots; no later one says that it was durable."""
    _history(site, drain=False)
    path = "oplog/slot-0000"
    at = bytes(site.disk._node(path).data).rfind(BATCH_MAGIC)
    _spoil(site, path, at, at + len(BATCH_MAGIC))


def test_a_rotten_end_of_the_log_may_look_torn_when_the_note_was_lost(world: World) -> None:
    site = world.sites[0]
    _rotten_end(site)
    _note(site, kept=False)
    world.crash(site)
    assert not _damaged(site)
    assert len(site.guests.model.points) == 1, "the last snapshot is gone"


def test_a_rotten_end_of_the_log_is_damage_when_the_note_is_there(world: World) -> None:
    site = world.sites[0]
    _rotten_end(site)
    _note(site, kept=True)
    world.crash(site)
    assert _damaged(site)


def test_a_front_that_hides_what_the_note_proves_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    site = world.sites[0]
    _history(site, drain=False)
    site.log_rotten = True
    _note(site, kept=True)
    monkeypatch.setattr(harness, "replay", lambda engine, batches: None)
    with pytest.raises(Violation, match="no state that it may"):
        world.crash(site)


OLD, NEW, NOBODYS = (bytes([n]) * BLOCK_BYTES for n in (1, 2, 3))


def _hidden() -> tuple[Model, list[int]]:
    """A disk of three blocks and a snapshot of it, both as before or both as after a write to the first two."""
    before = Model({"disk": Image(3 * BLOCK_BYTES)})
    before.disks["disk"].write(0, OLD * 3)
    before.points["point"] = {"disk": before.disks["disk"].copy()}
    after = before.copy()
    after.disks["disk"].write(0, NEW * 2)
    after.points["point"] = {"disk": after.disks["disk"].copy()}
    seen = Found({"disk": [None, None, OLD]}, {"point": {"disk": [None, None, OLD]}})
    assert not before.unlike(seen)
    assert not after.unlike(seen)
    return merged([(after, None), (before, None)])


def _possible(
    model: Model, candidates: list[int], *disk: bytes | None, point: list[bytes | None] | None = None
) -> list[int]:
    found = Found({"disk": list(disk)}, {"point": {"disk": point or [None] * 3}})
    return [candidate for candidate in candidates if not model.unlike(found, candidate=candidate)]


def test_every_state_that_damage_hides_stays_possible_until_a_read_decides() -> None:
    model, candidates = _hidden()
    assert _possible(model, candidates, None, None, OLD) == candidates == [0, 1]
    assert _possible(model, candidates, NEW, None, OLD) == [0]
    assert _possible(model, candidates, None, OLD, OLD) == [1]
    assert _possible(model, candidates, None, None, None, point=[OLD, None, OLD]) == [1]


def test_what_no_state_had_is_not_possible() -> None:
    model, candidates = _hidden()
    assert _possible(model, candidates, NOBODYS, None, OLD) == []
    assert _possible(model, candidates, None, None, NEW) == []


def test_parts_of_two_states_are_not_possible() -> None:
    model, candidates = _hidden()
    assert _possible(model, candidates, NEW, OLD, OLD) == []
    assert _possible(model, candidates, NEW, NEW, OLD, point=[OLD, OLD, OLD]) == []


def test_what_is_written_over_a_hidden_block_is_known_again() -> None:
    model, candidates = _hidden()
    model.disks["disk"].write(0, NOBODYS)
    assert _possible(model, candidates, NOBODYS, None, OLD) == [0, 1]
    assert _possible(model, candidates, NEW, None, OLD) == []
    assert _possible(model, candidates, NOBODYS, OLD, OLD, point=[OLD, OLD, OLD]) == [1]
    model.disks["disk"].write(BLOCK_BYTES, b"part")
    assert _possible(model, candidates, NOBODYS, b"part" + OLD[4:], OLD) == [1]


def test_a_copy_of_a_hidden_block_is_hidden_in_the_same_way() -> None:
    model, candidates = _hidden()
    model.disks["clone"] = model.disks["disk"].copy()
    found = Found({"disk": [NEW, None, OLD], "clone": [OLD, None, OLD]}, {"point": {"disk": [None] * 3}})
    assert [c for c in candidates if not model.unlike(found, candidate=c)] == []
    found.disks["clone"] = [NEW, None, OLD]
    assert [c for c in candidates if not model.unlike(found, candidate=c)] == [0]


def test_a_site_that_shows_neither_is_found_out(world: World) -> None:
    site = world.sites[0]
    model, candidates = _hidden()
    site.guests.states, site.guests.candidates = [model], list(candidates)
    with pytest.raises(Violation):
        oracle.running(world, site)
