# SPDX-License-Identifier: Apache-2.0
"""After the machine died, disks with acknowledged writes that were not stored yet wait for an explicit re-open."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from stargate.catalog.state import State
from stargate.errors import DamagedData, ExportDown
from stargate.front.exports import DiskExport
from stargate.nbd.exports import ConnInfo
from stargate.units import BLOCK_BYTES
from tests.engine.harness import Site, commit
from tests.engine.test_halves import create, drained, snapshot, started

DATA = memoryview(b"data" * (BLOCK_BYTES // 4))


def opened(site: Site, name: str) -> DiskExport:
    assert site.front is not None
    export = site.front.exports.lookup(name)
    assert isinstance(export, DiskExport)
    return export


def write_unsynced(site: Site, name: str, block: int = 0) -> None:
    """A write whose guest may have been answered: the note before it is durable, it itself is not."""
    assert site.front is not None
    export = opened(site, name)
    export.write(0, DATA)
    commit(site.front.exports)
    site.sync()
    export.write(block * BLOCK_BYTES, DATA)
    commit(site.front.exports)
    assert not export.answers_when_durable


def host_death(site: Site) -> None:
    site.power_cut()
    site.boot_id = str(uuid.uuid4())
    site.start()


def quiet(site: Site) -> None:
    """What the process does each second, until it has nothing to note."""
    assert site.front is not None
    for _ in range(3):
        site.front.exports.tidy()
        site.sync()


def test_an_export_is_down_until_it_is_opened_again_also_after_more_restarts() -> None:
    site, name = started()
    write_unsynced(site, name)
    host_death(site)
    with pytest.raises(ExportDown, match="this machine died"):
        opened(site, name)
    host_death(site)
    with pytest.raises(ExportDown):
        opened(site, name)
    assert site.front is not None
    orders = site.front.orders
    shown = orders.do_vdisk(name)
    assert (shown["reopen"], shown["role"]) == (True, "active")
    assert "machine died" in shown["reason"]
    assert name not in site.front.exports.names()
    assert orders.do_reopen([name], None) == {"reopened": [name]}
    assert orders.do_reopen([name], None) == {"reopened": []}
    assert not orders.do_vdisk(name)["reopen"]
    opened(site, name).write(0, DATA)
    host_death(site)


def test_a_process_that_was_killed_on_the_same_boot_lost_nothing_and_asks_for_nothing() -> None:
    site, name = started()
    write_unsynced(site, name)
    site.kill_front()
    site.kill_store()
    site.start()
    assert opened(site, name).read(0, BLOCK_BYTES)
    host_death(site)  # but it is still unsynced
    with pytest.raises(ExportDown):
        opened(site, name)


def test_a_disk_that_was_quiet_and_one_that_never_wrote_are_served_at_once() -> None:
    site, name = started()
    other = create(site)
    write_unsynced(site, name)
    site.sync()
    quiet(site)
    host_death(site)
    opened(site, name)
    opened(site, other)


def test_only_the_disks_that_were_unsynced_are_asked_for() -> None:
    site, name = started()
    other = create(site)
    write_unsynced(site, name)
    quiet(site)
    write_unsynced(site, other)
    host_death(site)
    opened(site, name)
    with pytest.raises(ExportDown):
        opened(site, other)


def test_no_write_is_answered_before_the_note_is_durable() -> None:
    """Else a crash could take the note and an answered write together, and nobody would be asked."""
    site, name = started()
    assert site.front is not None
    export = opened(site, name)
    assert not export.answers_when_durable
    for _ in range(3):
        export.write(0, DATA)
        commit(site.front.exports)
        assert export.answers_when_durable
    site.sync()
    assert not export.answers_when_durable
    appended = site.front.engine.log.appended.seq
    export.write(0, DATA)
    commit(site.front.exports)
    assert site.front.engine.log.appended.seq == appended + 1  # no second note


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_crash_left_an_answered_write_is_there_or_asked_for(seed: int) -> None:
    print(f"seed {seed}")
    site, name = started(seed)
    answered = bytes(BLOCK_BYTES)
    for step in range(1, 30):
        assert site.front is not None
        export = opened(site, name)
        data = bytes([step]) * BLOCK_BYTES
        export.write(0, memoryview(data))
        commit(site.front.exports)
        if not export.answers_when_durable:
            answered = data
        if site.rng.random() < 0.3:
            site.sync()
            answered = data
        if site.rng.random() < 0.2:
            quiet(site)
            answered = data
        if site.rng.random() < 0.15:
            drained(site)
    host_death(site)
    assert site.front is not None
    if not site.front.orders.do_vdisk(name)["reopen"]:
        found = bytes(b"".join(map(bytes, opened(site, name).read(0, BLOCK_BYTES))))
        assert found[0] >= answered[0]


def test_a_write_through_disk_answers_when_durable_and_needs_no_re_open() -> None:
    site, _ = started()
    assert site.front is not None
    name = str(uuid.uuid4())
    shown = site.front.orders.do_vdisk_create(name, 1 << 20, "wt", "active", None, None, write_through=True)
    assert shown["write_through"]
    export = opened(site, name)
    export.write(0, DATA)
    commit(site.front.exports)
    site.sync()
    assert export.answers_when_durable
    host_death(site)
    assert opened(site, name).answers_when_durable


def test_write_through_is_changed_while_a_client_is_there() -> None:
    site, name = started()
    write_unsynced(site, name)
    assert site.front is not None
    export = opened(site, name)
    site.front.orders.do_set_write_through([name], True, None)
    assert export.answers_when_durable
    host_death(site)
    assert site.front.orders.do_vdisk(name)["write_through"]
    export = opened(site, name)
    site.front.orders.do_set_write_through([name], False, None)
    assert not export.answers_when_durable
    write_unsynced(site, name)
    host_death(site)
    with pytest.raises(ExportDown):
        opened(site, name)


@pytest.mark.parametrize(
    "order",
    [
        lambda site, name, point: site.front.orders.do_restore(point, {name: name}, False, None),
        lambda site, name, point: [site.front.orders.do_set_role([name], r, "", None) for r in ("down", "active")],
    ],
)
def test_an_explicit_restore_or_attach_opens_it_too(order: Callable[[Site, str, str], object]) -> None:
    site, name = started()
    point = snapshot(site, name)
    site.sync()
    write_unsynced(site, name)
    host_death(site)
    order(site, name, point)
    opened(site, name)


def test_an_orderly_stop_leaves_nothing_to_ask_for() -> None:
    site, name = started()
    write_unsynced(site, name)
    assert site.front is not None
    site.front.exports.unsynced.close()
    host_death(site)
    opened(site, name)


def test_a_client_that_writes_keeps_its_disk_unsynced() -> None:
    site, name = started()
    assert site.front is not None
    conn = ConnInfo(1, "peer", name, 0.0)
    export = opened(site, name)
    site.front.exports.opened(conn, export)
    write_unsynced(site, name)
    for _ in range(4):
        conn.writes += 1
        site.front.exports.tidy()
        site.sync()
        assert site.front.engine.state.vdisks[name].unsynced
    quiet(site)
    assert not site.front.engine.state.vdisks[name].unsynced


def test_a_boot_that_nobody_can_tell_counts_as_another_one() -> None:
    site, name = started()
    write_unsynced(site, name)
    site.kill_front()
    site.boot_id = ""
    site.start_front()
    with pytest.raises(ExportDown):
        opened(site, name)


def test_an_older_catalog_opens_and_a_newer_one_is_refused() -> None:
    site, name = started()
    drained(site)
    assert site.store is not None
    state = site.store.hub.state.to_dict()
    old = {**state, "format": 1}
    del old["boot_id"]
    for disk in old["vdisks"].values():
        for field in ("write_through", "unsynced", "reopen"):
            del disk[field]
    assert State.from_dict(old).vdisks[name].reopen == ""
    with pytest.raises(DamagedData, match="format 3"):
        State.from_dict({**state, "format": 3})
