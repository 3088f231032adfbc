# SPDX-License-Identifier: Apache-2.0
"""Curator's turns: what it does by itself, and what it says when it cannot."""

from __future__ import annotations

import threading
from random import Random
from typing import cast

import pytest

from stargate.space import Level
from stargate.store.curator import Curator
from stargate.store.space import Space
from tests.curator.test_accounts import Shop


def test_a_turn_sweeps_scans_and_says_why_it_could_not() -> None:
    shop = Shop(Random(5))
    for _ in range(12):
        shop.step()
    shop.snapshot()
    shop.settle()
    store = shop.site.store
    assert store is not None
    accounts = shop.accounts()
    stopped = threading.Event()
    curator = Curator(store.hub, store.sweeper, accounts, store.grants, stopped, 1.0, shop.site.clock)
    assert curator._turn(False)
    assert accounts.scanned_at is None, "nothing came or went"
    assert curator._turn(True)
    assert accounts.scanned_at is not None
    root = next(e.root for e in store.hub.state.epochs.values() if e.root is not None)
    hidden = shop.site.index._extents.pop(bytes.fromhex(root))
    shop.site.settle()
    assert not curator._turn(True)
    assert "not in the index" in store.sweeper.last_error
    shop.site.index._extents[bytes.fromhex(root)] = hidden
    shop.site.settle()
    assert curator._turn(True)
    assert store.sweeper.last_error == ""


def test_space_goes_back_while_a_scan_is_at_work() -> None:
    """Curator scans as soon as it has swept, which is before the front has let go of what was deleted."""
    shop = Shop(Random(7))
    for _ in range(12):
        shop.step()
    shop.snapshot()
    shop.settle()
    store = shop.site.store
    assert store is not None
    for point in list(shop.points):
        shop.orders.do_snapshot_delete(point, None)
    for disk in shop.disks:
        shop.orders.do_vdisk_delete(disk, None)
    shop.settle()
    assert store.sweeper.sweep().freed_bytes
    assert store.extents.stats().freed_bytes, "the front may still read there"
    with store.sweeper.lock:
        shop.site.settle()
    assert store.extents.stats().freed_bytes == 0


class _Silent:
    """The file system does not say how full it is."""

    def level(self) -> Level:
        raise OSError("statvfs fails")


def test_a_file_system_that_does_not_say_how_full_it_is_ends_no_curator() -> None:
    shop = Shop(Random(8))
    store = shop.site.store
    assert store is not None
    looks: list[int] = []
    stopped = threading.Event()

    def look() -> bool:
        looks.append(1)
        return len(looks) > 3

    stopped.wait = lambda timeout=None: look()  # type: ignore[method-assign]
    silent = cast(Space, _Silent())
    Curator(store.hub, store.sweeper, shop.accounts(), store.grants, stopped, 9.0, shop.site.clock, silent).run()
    assert len(looks) == 4


def test_an_error_that_nobody_foresaw_is_said_and_ends_no_turn_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(Random(6))
    store = shop.site.store
    assert store is not None
    curator = Curator(store.hub, store.sweeper, shop.accounts(), store.grants, threading.Event(), 1.0, shop.site.clock)

    def odd() -> None:
        raise ValueError("odd")

    with monkeypatch.context() as patched:
        patched.setattr(store.sweeper, "sweep", odd)
        assert not curator._turn(True)
    assert store.sweeper.last_error == "odd"
    shop.settle()
    assert curator._turn(True)
    assert store.sweeper.last_error == ""
