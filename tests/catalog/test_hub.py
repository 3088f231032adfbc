# SPDX-License-Identifier: Apache-2.0
"""The hub ends its process when the catalog takes nothing more, whoever found that out."""

from __future__ import annotations

import pytest

from stargate.errors import LogFrozen, NoSpace, StaleToken
from stargate.fs.memdisk import MemDisk
from stargate.store.hub import CatalogHub


def _hub(disk: MemDisk) -> tuple[CatalogHub, list[str]]:
    hub, ended = CatalogHub(disk), list[str]()
    hub.on_frozen = lambda: ended.append("ended")
    return hub, ended


def test_a_commit_whose_sync_fails_ends_the_process() -> None:
    """Its frame may be in the file: a front that reads it knows more than this process and would be sent away by it
    for ever, when it was a replication or an order and not the drain that met the fault (simulator, seed 2311260084).
    """
    disk = MemDisk()
    hub, ended = _hub(disk)
    disk.fail_fsync = 1
    with pytest.raises(LogFrozen):
        hub.commit({"op": "sweep", "sweep": 7})
    assert ended == ["ended"]


def test_a_commit_that_finds_no_space_does_not() -> None:
    disk = MemDisk()
    hub, ended = _hub(disk)
    disk.capacity_bytes = 1
    with pytest.raises(NoSpace):
        hub.commit({"op": "sweep", "sweep": 7})
    disk.capacity_bytes = None
    assert hub.commit({"op": "sweep", "sweep": 7}) == 2
    assert ended == []


def test_a_store_that_was_taken_over_ends_itself() -> None:
    disk = MemDisk()
    hub, ended = _hub(disk)
    hub.commit({"op": "token", "token": hub.token + 1})  # as the one that took over says in the catalog
    with pytest.raises(StaleToken):
        hub.commit({"op": "sweep", "sweep": 7})
    assert ended == ["ended"]
