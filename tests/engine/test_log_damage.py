# SPDX-License-Identifier: Apache-2.0
"""Damaged mode (L3): the log lost a part below a durable position, and what stands before it is served, read-only."""

from __future__ import annotations

import uuid
from random import Random

import pytest

from stargate.errors import DamagedData, LogDamaged
from stargate.oplog.format import BATCH_MAGIC
from stargate.units import BLOCK_BYTES
from tests.engine.harness import SEGMENT_BYTES, Site
from tests.engine.test_damage import place_of
from tests.engine.test_halves import create, drained, snapshot, started, write


def word(text: bytes) -> bytes:
    return text * (BLOCK_BYTES // len(text))


def files(site: Site) -> dict[str, bytes]:
    """What is stored, but for locks."""
    return {path: data for path, data in site.disk.snapshot().items() if not path.endswith("lock")}


def hurt() -> tuple[Site, str, str]:
    """A site whose log is damaged behind a snapshot: (site, disk, snapshot). Its front is down."""
    site, name = started()
    write(site, name, 0, word(b"old."))
    point = snapshot(site, name)
    write(site, name, 0, word(b"lost"))
    write(site, name, BLOCK_BYTES, word(b"late"))  # says that the batch before it was durable
    write(site, name, 2 * BLOCK_BYTES, word(b"last"))
    path, at = place_of(site, b"lostlost", "oplog")
    site.kill_front()
    site.disk.flip(path, at - 8)  # the table before the payload
    return site, name, point


def damaged() -> tuple[Site, str, str]:
    """The same, started."""
    site, name, point = hurt()
    site.start_front()
    return site, name, point


def read(site: Site, name: str, offset: int) -> bytes:
    assert site.front is not None
    return b"".join(bytes(part) for part in site.front.exports.lookup(name).read(offset, BLOCK_BYTES))


def test_the_front_starts_and_changes_nothing_in_the_log() -> None:
    site, _, _ = hurt()
    before = files(site)
    site.start_front()
    assert site.front is not None
    site.sync()
    site.front.engine.log.prepare()
    assert files(site) == before


def test_a_snapshot_before_the_damage_is_read_and_the_disk_is_refused_block_by_block() -> None:
    site, name, point = damaged()
    assert read(site, f"snapshot:{point}:{name}", 0) == word(b"old.")
    for block in range(4):
        with pytest.raises(DamagedData, match="read-only"):
            read(site, name, block * BLOCK_BYTES)
    assert site.front is not None
    assert site.front.exports.lookup(name).extents(0, 8192) == [(8192, 0)]


def test_every_order_that_changes_something_is_refused_with_the_reason() -> None:
    site, name, point = damaged()
    assert site.front is not None
    orders = site.front.orders
    for order in (
        lambda: orders.do_snapshot_create(str(uuid.uuid4()), [name], {}, "", None),
        lambda: orders.do_vdisk_create(str(uuid.uuid4()), 4096, "x", "active", None, None),
        lambda: orders.do_set_role([name], "down", "", None),
        lambda: orders.do_restore(point, {name: name}, False, None),
        lambda: orders.do_fence([name], "", None, {}, "", None),
        lambda: orders.do_snapshot_delete(point, None),
        lambda: orders.do_vdisk_delete(name, None),
    ):
        with pytest.raises(LogDamaged, match="accept-loss"):
            order()
    export = site.front.exports.lookup(name)
    assert export.read_only
    with pytest.raises(LogDamaged):
        export.write(0, memoryview(bytes(4096)))
    assert "log is damaged" in orders.do_vdisk(name)["reason"]
    shown = orders.do_status()["damaged"]
    assert shown["heads_lost"]
    assert shown["position"] == site.front.engine.log.appended.position


def test_a_leader_can_still_claim_a_term_so_that_snapshots_go_on_being_sent() -> None:
    site, _, _ = damaged()
    assert site.front is not None
    assert site.front.orders.do_claim_term(7) == {"term": 7}
    assert site.front.orders.do_status()["term"] == 7


def test_the_store_drains_and_folds_what_stands_before_the_damage_and_then_rests() -> None:
    site, name, point = damaged()
    site.connect()
    assert site.front is not None
    assert site.store is not None
    drained(site)
    while site.fold():
        site.settle()
    state = site.store.hub.state
    assert state.snapshot_state(state.snapshots[point]) == "rooted"
    assert state.covered.position == site.front.engine.log.appended.position
    assert site.front.engine.state.snapshot_state(site.front.engine.state.snapshots[point]) == "rooted"
    assert read(site, f"snapshot:{point}:{name}", 0) == word(b"old.")
    with pytest.raises(DamagedData):
        read(site, name, 0)
    assert not site.drain()


def test_damage_is_found_again_at_every_start_also_after_the_drain() -> None:
    site, name, point = damaged()
    site.connect()
    drained(site)
    before = files(site)
    for _ in range(2):
        site.kill_front()
        site.start_front()
        assert site.front is not None
        assert site.front.engine.damage is not None
        assert read(site, f"snapshot:{point}:{name}", 0) == word(b"old.")
    assert files(site) == before


@pytest.mark.parametrize("lost", ["superblock", "everything", "slot"])
def test_a_log_that_lost_its_head_leaves_what_was_drained(lost: str) -> None:
    site, name = started()
    write(site, name, 0, word(b"old."))
    point = snapshot(site, name)
    drained(site)
    site.sync()
    drained(site)
    write(site, name, 0, word(b"lost"))
    site.kill_front()
    wanted = {"superblock": "oplog/superblock", "everything": "oplog/", "slot": "oplog/slot"}[lost]
    for path in [p for p in site.disk.snapshot() if p.startswith(wanted)]:
        site.disk.unlink(path)
    site.start_front()
    assert read(site, f"snapshot:{point}:{name}", 0) == word(b"old.")
    with pytest.raises(DamagedData):
        read(site, name, 0)


@pytest.mark.parametrize("lost", ["folder", "superblock", "zeroed superblock"])
def test_a_log_wholly_lost_before_its_first_drain_is_damage_and_no_new_one_is_made(lost: str) -> None:
    site, name = started()
    write(site, name, 0, word(b"lost"))
    assert site.store is not None
    assert not site.store.hub.state.log_id, "nothing is drained yet"
    site.kill_front()
    for path in ("oplog/superblock", "oplog/superblock-2") if lost == "zeroed superblock" else ():
        file = site.disk.open(path)
        file.pwritev([bytes(file.size())], 0)
    for path in [p for p in site.disk.snapshot() if p.startswith("oplog/")]:
        if lost == "folder" or (lost == "superblock" and "superblock" in path):
            site.disk.unlink(path)
    before = files(site)
    for _ in range(2):
        site.start_front()
        assert site.front is not None
        assert site.front.orders.do_status()["damaged"]["heads_lost"]
        with pytest.raises(LogDamaged, match="accept-loss"):
            create(site)
        site.kill_front()
    assert files(site) == before


def to_the_damage(site: Site) -> None:
    """Drain until it is met: the first look at it."""
    with pytest.raises(LogDamaged):
        drained(site)


def test_damage_found_while_the_front_runs_makes_it_read_only_with_every_byte_readable() -> None:
    site, name = started()
    write(site, name, 0, word(b"one."))
    write(site, name, BLOCK_BYTES, word(b"two."))
    write(site, name, 2 * BLOCK_BYTES, word(b"tri."))
    path, at = place_of(site, b"two.two.", "oplog")
    site.disk.flip(path, at - 8)
    assert site.front is not None
    assert site.store is not None
    to_the_damage(site)
    to_the_damage(site)
    site.store.worker._drain_turn()  # rests, and tells
    site.settle()
    assert [read(site, name, n * BLOCK_BYTES) for n in range(3)] == [word(b"one."), word(b"two."), word(b"tri.")]
    with pytest.raises(LogDamaged):
        write(site, name, 0, word(b"more"))
    assert not site.front.orders.do_status()["damaged"]["heads_lost"]
    assert not site.store.worker._drain_turn()


def test_one_bad_look_of_the_store_stops_nobody() -> None:
    site, name = started()
    write(site, name, 0, word(b"one."))
    write(site, name, 0, word(b"two."))
    path, at = place_of(site, b"one.one.", "oplog")
    site.disk.flip(path, at - 8)
    to_the_damage(site)
    site.disk.flip(path, at - 8)
    drained(site)
    write(site, name, 0, word(b"more"))
    assert read(site, name, 0) == word(b"more")


def flip_in_the_log(site: Site, rng: Random) -> None:
    """One bit of what is not drained: mostly in a header or table, where it costs the chain."""
    assert site.front is not None
    covered, end = site.front.engine.state.covered.position, site.front.engine.log.appended.position
    at = rng.randrange(covered, end)
    slot, stored = f"oplog/slot-{at // SEGMENT_BYTES:04d}", site.disk.snapshot()
    if rng.random() < 0.7:
        before = stored[slot].rfind(BATCH_MAGIC, 0, at % SEGMENT_BYTES + 1)
        site.disk.flip(slot, max(0, before) + rng.randrange(80), 1 << rng.randrange(8))
    else:
        site.disk.flip(slot, at % SEGMENT_BYTES, 1 << rng.randrange(8))


@pytest.mark.parametrize("seed", range(16))
def test_nothing_older_than_acknowledged_is_read_wherever_the_log_is_hit(seed: int) -> None:
    """One flipped bit anywhere in the log: a block reads as its last value or not at all, a snapshot as it was."""
    rng = Random(seed)
    print(f"seed {seed}")
    site, name = started(seed)
    names = [name, create(site)]
    points: dict[tuple[str, str], bytes] = {}
    last: dict[str, bytes] = {}
    for step in range(120):
        disk = rng.choice(names)
        write(site, disk, rng.randrange(8) * BLOCK_BYTES, bytes([step + 1]) * BLOCK_BYTES)
        last[disk] = site.content(disk)
        if rng.random() < 0.1:
            point = snapshot(site, *names)
            points.update({(point, n): site.content(n) for n in names})
        if rng.random() < 0.02:
            drained(site)
    assert site.front is not None
    flip_in_the_log(site, rng)
    site.kill_front()
    site.start_front()
    assert site.front is not None
    for disk in names:
        for n, found in enumerate(site.blocks(disk)):
            assert found in (None, last[disk][n * BLOCK_BYTES : (n + 1) * BLOCK_BYTES]), (disk, n)
    for (point, disk), wanted in points.items():
        if point not in site.front.engine.state.snapshots:
            assert site.front.engine.damage is not None
            continue
        for n, found in enumerate(site.blocks(f"snapshot:{point}:{disk}")):
            assert found in (None, wanted[n * BLOCK_BYTES : (n + 1) * BLOCK_BYTES]), (point, disk, n)
