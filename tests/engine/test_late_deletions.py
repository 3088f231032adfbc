# SPDX-License-Identifier: Apache-2.0
"""Orders about what the front has not heard of yet, or that contradict themselves."""

from __future__ import annotations

import uuid
from random import Random
from typing import NoReturn, cast

import pytest

from stargate.errors import InvalidArgument
from stargate.extents.format import DamagedExtent
from stargate.front import exports
from stargate.internal import Line
from stargate.store import hub
from tests.engine.harness import Mailbox, Site
from tests.engine.test_halves import SIZE, create, drained, snapshot, started, write

POINT, PEER, DISK = (str(uuid.UUID(int=number)) for number in range(1, 4))


def receive(site: Site, root: str) -> None:
    """The store publishes what a paired site sent; the news is on its way to the front."""
    assert site.store is not None
    member = {"disk": DISK, "epoch": str(uuid.uuid4()), "root": root, "size_bytes": SIZE, "chunk_bytes": 65536}
    op = {"op": "received", "snapshot": POINT, "members": [member], "manifest": {}, "created_at": 1.0, "owner": ""}
    site.store.hub.commit({**op, "origin": PEER})


def folded() -> tuple[Site, str]:
    """A site and the root of a version there."""
    site, name = started()
    write(site, name, 0, Random(1).randbytes(4096))
    point = snapshot(site, name)
    drained(site)
    while site.fold():
        site.settle()
    assert site.store is not None
    state = site.store.hub.state
    root = state.epochs[state.snapshots[point].members[0].epoch].root
    assert root is not None
    return site, root


def gone(site: Site) -> bool:
    assert site.front is not None
    assert site.store is not None
    return POINT not in site.front.engine.state.snapshots and POINT not in site.store.hub.state.snapshots


@pytest.mark.parametrize("killed", [False, True])
def test_a_received_snapshot_that_the_front_has_not_heard_of_is_deleted(killed: bool) -> None:
    site, root = folded()
    assert site.front is not None
    receive(site, root)
    site.front.orders.do_snapshot_delete(POINT, None)
    if killed:
        site.kill_front()
        site.start_front()
        site.connect()
    site.settle()
    site.sync()
    drained(site)
    site.settle()
    assert gone(site)
    site.kill_front()
    site.start_front()
    assert gone(site)


def test_a_snapshot_that_comes_again_after_its_deletion_stays() -> None:
    site, root = folded()
    assert site.front is not None
    site.front.orders.do_snapshot_delete(POINT, None)
    site.sync()
    drained(site)
    receive(site, root)
    site.settle()
    other = create(site)
    write(site, other, 0, bytes(4096))
    drained(site)
    assert POINT in site.front.engine.state.snapshots


def test_a_restore_of_two_disks_to_one_is_refused() -> None:
    site, name = started()
    other = create(site)
    point = snapshot(site, name, other)
    assert site.front is not None
    with pytest.raises(InvalidArgument, match="name it once"):
        site.front.orders.do_restore(point, {name: other, other: other}, False, None)


def test_what_is_kept_for_a_front_that_never_acknowledges_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A front so far behind starts anew from the catalog; one that is not gets just what it lacks."""
    monkeypatch.setattr(hub, "RECENT_OPS_MAX", 50)
    site = Site(Random(1))
    site.start()
    site.kill_store()
    site.start_store()
    assert site.store is not None
    first = site.store.hub.state.n
    for epoch in range(200):
        site.store.hub.commit({"op": "sweep", "sweep": epoch})
    assert len(site.store.hub._recent) == 50
    line = Mailbox()
    assert not site.store.hub.attach(cast(Line, line), first, first)
    assert line.messages.popleft()["restart"]
    assert site.store.hub.attach(cast(Line, line), first + 190, first + 190)
    assert len(line.messages.popleft()["ops"]) == 10


def test_a_damaged_node_met_by_a_question_for_holes_is_told_to_the_healer(monkeypatch: pytest.MonkeyPatch) -> None:
    site, name = started()
    assert site.front is not None
    told: list[bytes] = []
    site.front.engine.on_damage = told.append
    export = site.front.exports.lookup(name)

    def damaged(*_: object) -> NoReturn:
        raise DamagedExtent("rotten", digest=bytes(32))

    monkeypatch.setattr(exports, "_untouched", damaged)
    with pytest.raises(DamagedExtent):
        export.extents(0, SIZE)
    assert told == [bytes(32)]
