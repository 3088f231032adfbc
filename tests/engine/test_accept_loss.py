# SPDX-License-Identifier: Apache-2.0
"""`accept-loss`: a damaged log is put aside by an order that says what is lost, and the site serves again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from random import Random

import pytest

from stargate.errors import DamagedData, ExportDown, InvalidArgument, LogDamaged, NotFound, Unavailable
from stargate.oplog.format import SEGMENT_HEADER_BYTES, SUPERBLOCK_SLOT_BYTES
from stargate.store.accept_loss import BEFORE_DAMAGE, DOWN, NEWEST, Plan, carry_out, plan
from stargate.units import BLOCK_BYTES
from tests.engine.harness import CutDisk, PowerCut, Site
from tests.engine.test_damage import place_of
from tests.engine.test_halves import create, drained, snapshot, started, write
from tests.engine.test_log_damage import hurt, read, word


def give_up(site: Site, choice: str = DOWN, chosen: Mapping[str, str] | None = None) -> Plan | None:
    """The order, with both halves down before and after."""
    site.kill_front()
    site.kill_store()
    site.start_store()
    assert site.store is not None
    try:
        return carry_out(site.disk, site.store.hub, site.store.worker, site.clock, choice, chosen or {})
    finally:
        site.kill_store()


def hurt_late() -> tuple[Site, str, str]:
    """(site, disk, snapshot): word "old." in the snapshot, "more" after it, then what gets lost."""
    site, name = started()
    write(site, name, 0, word(b"old."))
    point = snapshot(site, name)
    write(site, name, 0, word(b"more"))
    write(site, name, BLOCK_BYTES, word(b"lost"))
    write(site, name, 0, word(b"late"))
    path, at = place_of(site, b"lostlost", "oplog")
    site.disk.flip(path, at - 8)
    return site, name, point


def test_disks_stay_down_with_the_reason_and_all_they_held_before_is_a_snapshot() -> None:
    site, name, point = hurt_late()
    what = give_up(site)
    assert what is not None
    site.start()
    with pytest.raises(ExportDown, match="a part of the log was lost"):
        read(site, name, 0)
    assert read(site, f"snapshot:{point}:{name}", 0) == word(b"old.")
    assert read(site, f"snapshot:{what.safety}:{name}", 0) == word(b"more")
    assert read(site, f"snapshot:{what.safety}:{name}", BLOCK_BYTES) == bytes(BLOCK_BYTES)
    assert site.front is not None
    assert site.front.engine.damage is None
    site.front.orders.do_set_role([name], "active", "", None)
    assert read(site, name, 0) == word(b"more")


@pytest.mark.parametrize(("choice", "expected"), [(BEFORE_DAMAGE, b"more"), (NEWEST, b"old.")])
def test_disks_come_back_as_chosen_and_take_writes(choice: str, expected: bytes) -> None:
    site, name, point = hurt_late()
    what = give_up(site, choice)
    assert what is not None
    assert [fate.snapshot for fate in what.fates] == [point if choice == NEWEST else None]
    site.start()
    assert read(site, name, 0) == word(expected)
    write(site, name, BLOCK_BYTES, word(b"new."))
    drained(site)
    site.power_cut()
    site.start()
    assert (read(site, name, 0), read(site, name, BLOCK_BYTES)) == (word(expected), word(b"new."))


def test_one_disk_is_chosen_apart_and_one_that_was_down_stays_down() -> None:
    site, name, point = hurt()
    site.start_front()
    site.kill_front()
    what = give_up(site, DOWN, {name: point})
    assert what is not None
    site.start()
    assert read(site, name, 0) == word(b"old.")


def test_a_disk_that_was_down_before_the_damage_stays_down() -> None:
    site, name = started()
    other = create(site)
    assert site.front is not None
    site.front.orders.do_set_role([other], "down", "moved away", None)
    write(site, name, 0, word(b"lost"))
    write(site, name, 0, word(b"late"))
    path, at = place_of(site, b"lostlost", "oplog")
    site.disk.flip(path, at - 8)
    give_up(site, BEFORE_DAMAGE)
    site.start()
    with pytest.raises(ExportDown):
        read(site, other, 0)
    assert read(site, name, 0) == bytes(BLOCK_BYTES)


def test_the_plan_says_the_same_and_changes_nothing() -> None:
    site, _, _ = hurt_late()
    site.kill_front()
    before = site.disk.snapshot()
    told = plan(site.disk, NEWEST, {})
    assert site.disk.snapshot() == before
    done = give_up(site, NEWEST)
    assert done is not None
    assert (told.position, told.fates) == (done.position, done.fates)


def test_the_damaged_log_is_kept() -> None:
    site, _, _ = hurt_late()
    wanted = {data for path, data in site.disk.snapshot().items() if path.startswith("oplog/slot")}
    give_up(site)
    kept = {data for path, data in site.disk.snapshot().items() if path.startswith("oplog-damaged-")}
    assert wanted <= kept


def test_a_log_that_is_gone_is_given_up_too() -> None:
    site, name = started()
    write(site, name, 0, word(b"old."))
    drained(site)
    site.kill_front()
    for path in [p for p in site.disk.snapshot() if p.startswith("oplog/")]:
        site.disk.unlink(path)
    give_up(site, BEFORE_DAMAGE)
    site.start()
    assert read(site, name, 0) == word(b"old.")


@pytest.mark.parametrize("lost", ["superblock", "first batch", "segment header", "folder"])
def test_a_log_that_lost_its_beginning_before_the_first_drain_is_read_only_until_it_is_given_up(lost: str) -> None:
    """The catalog knows of no disk yet: none is shown. But it is no fresh site that takes orders either."""
    site, name = started()
    write(site, name, 0, word(b"lost"))
    write(site, name, 0, word(b"late"))  # says that what stands before it was durable
    site.kill_front()
    paths = ["oplog/superblock", "oplog/superblock-2"] if lost == "superblock" else ["oplog/slot-0000"]
    nodes = [site.disk._node(path) for path in paths]
    start = SEGMENT_HEADER_BYTES if lost == "first batch" else 0
    for gone in [p for p in site.disk.snapshot() if p.startswith("oplog/") and lost == "folder"]:
        site.disk.unlink(gone)
    for data in (data for node in nodes for data in (node.data, node.durable)):
        data[start : start + 3] = bytes(3)
        if lost == "superblock":
            data[SUPERBLOCK_SLOT_BYTES : SUPERBLOCK_SLOT_BYTES + 3] = bytes(3)
    site.start_front()
    assert site.front is not None
    assert site.front.engine.state.vdisks == {}
    with pytest.raises(LogDamaged, match="accept-loss"):
        create(site)
    what = give_up(site, BEFORE_DAMAGE)
    assert what is not None
    assert (what.fates, what.safety) == ([], None)
    assert any(path.startswith("oplog-damaged-") for path in site.disk.snapshot())
    site.start()
    other = create(site)
    write(site, other, 0, word(b"new."))
    drained(site)
    assert read(site, other, 0) == word(b"new.")


def test_it_refuses_a_whole_log_a_running_front_and_a_wrong_choice() -> None:
    site, name = started()
    write(site, name, 0, word(b"good"))
    site.kill_front()
    with pytest.raises(InvalidArgument, match="whole"):
        plan(site.disk, DOWN, {})
    site, name, _ = hurt()
    with pytest.raises(NotFound):
        plan(site.disk, DOWN, {name: "no-such-snapshot"})
    with pytest.raises(NotFound):
        plan(site.disk, DOWN, {"no-such-disk": DOWN})
    site.start_front()
    with pytest.raises(Unavailable):
        plan(site.disk, DOWN, {})


@pytest.mark.parametrize("seed", range(3))
def test_an_order_cut_off_anywhere_is_finished_by_the_next_one(seed: int) -> None:
    """Power goes at every call in turn; until the order is repeated a front serves nothing wrong."""
    for cut_at in range(1 + 3 * seed, 2000, 9):
        site, name, point = hurt_late()
        site.rng = Random(seed * 10_000 + cut_at)
        print(f"seed {seed}, cut at call {cut_at}")
        site.kill_front()
        site.kill_store()
        site.disk.cut_at = cut_at
        try:
            give_up(site, BEFORE_DAMAGE)
        except PowerCut:
            after = site.disk.crash(site.rng)
        else:
            assert cut_at > 20
            return
        site.disk = CutDisk()
        site.disk.__dict__.update(after.__dict__)
        site.disk.cut_at = 0
        site.kill_front()
        site.kill_store()
        _serves_nothing_wrong(site, name, point)
        with suppress(InvalidArgument):  # the log is whole: the order was done to its end
            give_up(site, BEFORE_DAMAGE)
        site.start()
        assert read(site, name, 0) == word(b"more")
    raise AssertionError("it never came to its end")


def _serves_nothing_wrong(site: Site, name: str, point: str) -> None:
    """Refused to start, or refuses the disk, or has it as chosen."""
    try:
        site.start_store()
        site.start_front()
        assert read(site, f"snapshot:{point}:{name}", 0) == word(b"old.")
        assert read(site, name, 0) == word(b"more")
        assert site.front is not None
        assert site.front.engine.damage is None
    except DamagedData:
        pass
    site.kill_front()
    site.kill_store()
