# SPDX-License-Identifier: Apache-2.0
"""Front and store apart: one is behind, away, restarted or damaged, and guests keep their bytes."""

from __future__ import annotations

import uuid
from random import Random
from typing import Any

import pytest

from stargate.catalog.state import Op
from stargate.errors import InvalidArgument, LogFull, Unavailable
from stargate.oplog.format import LogMark, first_mark
from stargate.oplog.reader import LogReader
from stargate.store import drain, sweep
from stargate.units import BLOCK_BYTES, KiB
from tests.engine.harness import Site, commit

SIZE = 512 * KiB


def started(seed: int = 1) -> tuple[Site, str]:
    site = Site(Random(seed))
    site.start()
    return site, create(site)


def create(site: Site, size: int = SIZE, source: Op | None = None) -> str:
    assert site.front is not None
    name = str(uuid.uuid4())
    site.front.orders.do_vdisk_create(name, size, name, "active", source, None)
    return name


def write(site: Site, name: str, offset: int, data: bytes) -> None:
    assert site.front is not None
    export = site.front.exports.lookup(name)
    for at in range(0, len(data), 64 * KiB):
        export.write(offset + at, memoryview(data[at : at + 64 * KiB]))
        commit(site.front.exports)
    site.sync()


def scatter(site: Site, name: str, word: bytes) -> None:
    """Every second block, so that all of it goes to the hot tier."""
    for block in range(0, SIZE // BLOCK_BYTES, 2):
        write(site, name, block * BLOCK_BYTES, word * (BLOCK_BYTES // len(word)))


def snapshot(site: Site, *names: str) -> str:
    assert site.front is not None
    point = str(uuid.uuid4())
    site.front.orders.do_snapshot_create(point, list(names), {}, "", None)
    return point


def drained(site: Site) -> None:
    while site.drain():
        site.settle()


def folded_behind_the_front() -> tuple[Site, str, str]:
    """A front that reads from the hot tier what the store has folded already; and another disk."""
    site, name = started()
    other = create(site)
    scatter(site, name, b"one.")
    drained(site)
    snapshot(site, name)
    write(site, other, 0, b"begins another window")
    drained(site)
    assert site.fold()
    return site, name, other


def reuse_regions(site: Site, other: str) -> None:
    for word in (b"two.", b"tri.", b"for."):
        scatter(site, other, word)
        site.drain()


@pytest.mark.parametrize("event", ["restart", "cut", "taken", "none"])
def test_it_reuses_no_region_that_a_front_behind_may_read(event: str) -> None:
    site, name, other = folded_behind_the_front()
    expected = b"".join((b"one." * 1024) + bytes(4096) for _ in range(SIZE // 8192))
    assert site.content(name) == expected
    if event == "taken":
        site.deliver(100)  # told of the fold, but not there yet
    if event != "none":
        site.disconnect()
    if event == "restart":
        site.kill_store()
        site.start_store()
    if event != "none":
        site.connect()
    reuse_regions(site, other)
    assert site.content(name) == expected
    site.settle()
    assert site.content(name) == expected


def test_a_batch_that_was_appended_is_entered_before_the_next_one() -> None:
    """Also when whoever answered it did not come to say so."""
    site, name = started()
    assert site.front is not None
    export = site.front.exports.lookup(name)
    export.write(0, memoryview(b"one." * 1024))
    site.front.exports.commit()
    export.write(BLOCK_BYTES, memoryview(b"two." * 1024))
    commit(site.front.exports)
    assert site.content(name)[: 2 * BLOCK_BYTES] == b"one." * 1024 + b"two." * 1024


def test_a_drained_block_replaces_only_the_record_it_came_from() -> None:
    """Written or zeroed again before the front hears of the drain: in the hot tier is what was."""
    site, name = started()
    assert site.front is not None
    scatter(site, name, b"one.")
    assert site.drain()
    write(site, name, 0, b"two." * 1024)
    site.front.exports.lookup(name).zero(2 * BLOCK_BYTES, BLOCK_BYTES, True)
    commit(site.front.exports)
    site.settle()
    found = site.content(name)
    assert found[:BLOCK_BYTES] == b"two." * 1024
    assert found[2 * BLOCK_BYTES : 3 * BLOCK_BYTES] == bytes(BLOCK_BYTES)
    assert found[4 * BLOCK_BYTES : 5 * BLOCK_BYTES] == b"one." * 1024


def test_a_restarted_store_writes_over_no_dead_batch_that_a_front_behind_may_read() -> None:
    site, other = started()
    name = create(site)
    write(site, other, 0, b"is live in the same region, below")
    drained(site)
    write(site, name, 0, b"one." * 1024)
    drained(site)
    snapshot(site, name)
    site.drain()
    assert site.fold()  # what `name` has in the hot tier is dead, but the front does not know yet
    site.kill_store()
    site.start_store()
    site.connect()
    for _ in range(4):
        write(site, other, 4 * BLOCK_BYTES, b"goes to the hot tier")
        site.drain()
    assert site.content(name)[:BLOCK_BYTES] == b"one." * 1024
    site.settle()
    assert not site.restarts
    assert site.content(name)[:BLOCK_BYTES] == b"one." * 1024


def test_regions_are_used_again_once_the_front_followed() -> None:
    site, _, other = folded_behind_the_front()
    site.settle()
    regions = len(site.disk.list("hot"))
    for _ in range(6):
        reuse_regions(site, other)
        site.settle()
        snapshot(site, other)
        drained(site)
        site.fold()
        site.settle()
    assert len(site.disk.list("hot")) < regions + 12


def test_a_restarted_store_frees_nothing_before_a_front_came() -> None:
    site, name, _ = folded_behind_the_front()
    site.kill_store()
    site.start_store()
    assert site.store is not None
    done: list[int] = []
    site.store.hub.after_ack(site.store.hub.state.n, lambda: done.append(1))
    assert not done
    site.connect()
    site.settle()
    assert done == [1]
    assert site.content(name)[:4] == b"one."


@pytest.mark.parametrize("step", ["drained", "rooted"])
def test_a_sweep_keeps_what_gets_its_name_while_it_looks(step: str) -> None:
    site, name = started()
    assert site.store is not None
    hub, extents, sweeper = site.store.hub, site.store.extents, site.store.sweeper
    write(site, name, 0, Random(1).randbytes(SIZE))
    snapshot(site, name)
    if step == "rooted":
        drained(site)
    expected, commit, looked = site.content(name), hub.commit, []

    def commit_after_a_look(op: Op) -> int:
        if op["op"] == step:
            looked.append((extents.sweep_begin(), sweeper._named()[1]))
        return commit(op)

    hub.commit = commit_after_a_look  # type: ignore[method-assign]
    site.drain() if step == "drained" else site.fold()
    (epoch, live) = looked[0]
    extents.sweep_delete(live, epoch)
    site.settle()
    assert site.content(name) == expected


def test_a_sweep_waits_for_a_front_that_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "FRONT_SECONDS", 0.0)
    site, name = started()
    write(site, name, 0, Random(1).randbytes(SIZE))
    first = snapshot(site, name)
    drained(site)
    site.fold()
    site.settle()
    write(site, name, 0, b"x" * 5000)
    assert site.front is not None
    site.front.orders.do_snapshot_delete(first, None)
    snapshot(site, name)
    expected = site.content(name)
    site.drain()
    site.fold()  # the old tree is nobody's in the catalog, but the front still reads through it
    assert site.store is not None
    with pytest.raises(Unavailable, match="front"):
        site.store.sweeper.sweep()
    assert site.content(name) == expected
    site.settle()
    assert site.store.sweeper.sweep().extents > 0
    assert site.content(name) == expected


def test_space_that_a_killed_store_owed_is_returned_later() -> None:
    site, name = started()
    write(site, name, 0, Random(1).randbytes(SIZE))
    drained(site)
    assert site.front is not None
    assert site.store is not None
    site.front.orders.do_vdisk_delete(name, None)
    drained(site)
    assert site.store.sweeper.sweep().freed_bytes >= SIZE
    assert site.store.extents.index.freed(), "the front has not heard of the sweep yet"
    site.kill_store()
    site.start_store()
    site.connect()
    site.settle()
    site.store.sweeper.sweep()
    site.settle()
    assert site.store.extents.index.freed() == []


def test_an_op_that_cannot_be_applied_restarts_the_front_and_is_not_skipped() -> None:
    site, name = started()
    scatter(site, name, b"one.")
    site.drain()
    assert site.front is not None
    site.deliver(100)
    before = site.front.engine.state.n

    def broken(_: int) -> None:
        raise KeyError("a bug")

    site.front.engine.log.release = broken  # type: ignore[method-assign]
    restarts: list[int] = []
    site.front.link._on_restart = lambda: restarts.append(1)
    while site.front.calls:
        site.front.calls.popleft()()
    assert restarts
    assert not any(m["t"] == "ack" and m["n"] > before for m in site.store.line.messages)  # type: ignore[union-attr]


# -- the log is full ---------------------------------------------------------------------------------------------------


def fill(site: Site, name: str, length: int) -> int:
    """Write until the log is full; how many writes were taken."""
    assert site.front is not None
    export, taken = site.front.exports.lookup(name), 0
    try:
        while True:
            export.write((taken * length) % (SIZE - length), memoryview(taken.to_bytes(4, "big") * (length // 4)))
            commit(site.front.exports)
            taken += 1
    except LogFull:
        return taken


@pytest.mark.parametrize("length", [4 * KiB, 68 * KiB, 240 * KiB])
def test_orders_work_on_a_full_log_and_the_drain_frees_it(length: int) -> None:
    site, name = started()
    drained(site)
    site.kill_store()
    assert fill(site, name, length) * length > SIZE
    expected = site.content(name)
    points = [snapshot(site, name) for _ in range(20)]
    assert site.content(name) == expected
    site.start_store()
    site.connect()
    drained(site)
    write(site, name, 0, b"again" * 2000)
    assert site.content(f"snapshot:{points[-1]}:{name}") == expected
    assert site.content(name) == b"again" * 2000 + expected[10_000:]


def test_nothing_of_a_batch_is_acknowledged_when_its_unaligned_part_met_a_full_log() -> None:
    site, name = started()
    site.kill_store()
    fill(site, name, 4 * KiB)
    assert site.front is not None
    expected, export = site.content(name), site.front.exports.lookup(name)
    export.write(0, memoryview(b"a" * BLOCK_BYTES))
    with pytest.raises(LogFull):
        export.write(BLOCK_BYTES + 5, memoryview(b"b"))
    export.write(3 * BLOCK_BYTES, memoryview(b"c" * BLOCK_BYTES))
    with pytest.raises(LogFull):
        commit(site.front.exports)
    assert site.content(name) == expected


# -- bounds and bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "manifest",
    [{"a": float("nan")}, {"a": "\ud800"}, {"a": "x" * (5 << 20)}, "deep"],
    ids=["nan", "text", "size", "depth"],
)
def test_it_refuses_what_the_catalog_could_not_keep(manifest: Any) -> None:
    site, name = started()
    if manifest == "deep":
        manifest = {}
        for _ in range(300):
            manifest = {"a": manifest}
    assert site.front is not None
    before = site.front.engine.log.appended
    with pytest.raises(InvalidArgument):
        site.front.orders.do_snapshot_create(str(uuid.uuid4()), [name], manifest, "", None)
    assert site.front.engine.log.appended == before
    drained(site)


def test_many_log_ops_are_drained_in_frames_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "CONTROL_BYTES", 2000)
    site, name = started()
    points = [snapshot(site, name) for _ in range(30)]
    windows = 0
    while site.drain():
        windows += 1
    site.settle()
    assert windows > 3
    assert site.store is not None
    assert set(site.store.hub.state.snapshots) == set(points)


def test_a_client_from_before_a_resize_zeroes_nothing_behind_its_end() -> None:
    site, _ = started()
    name = create(site, 5000)
    assert site.front is not None
    old = site.front.exports.lookup(name)
    site.front.orders.do_vdisk_resize(name, 20_000, None)
    write(site, name, 5000, b"new data")
    old.zero(4096, 904, True)
    commit(site.front.exports)
    assert site.content(name)[5000:5008] == b"new data"


def test_every_batch_boundary_is_a_good_end_of_a_window() -> None:
    site, name = started()
    rng = Random(5)
    for _ in range(30):
        write(site, name, BLOCK_BYTES * rng.randrange(100), rng.randbytes(BLOCK_BYTES * rng.choice([1, 5, 20])))
    expected = site.content(name)
    reader = LogReader(site.disk, "oplog")
    ends = [b.end for b in reader.batches(LogMark(*first_mark(reader.info.log_id)), site.sync())]
    assert len({end // (256 * KiB) for end in ends}) > 3, "the log has several segments"
    for end in ends:
        assert site.drain(end)
        site.settle()
        site.kill_front()
        site.start_front()
        site.connect()
        assert site.content(name) == expected
    assert not site.drain()
