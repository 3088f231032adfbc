# SPDX-License-Identifier: Apache-2.0
"""Rotten bytes in log, hot tier and catalog: found, named, never served, and nothing else suffers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stargate.errors import DamagedData, LogDamaged
from stargate.units import BLOCK_BYTES
from tests.engine.harness import Site
from tests.engine.test_halves import drained, scatter, snapshot, started, write


def place_of(site: Site, needle: bytes, folder: str) -> tuple[str, int]:
    for path, data in site.disk.snapshot().items():
        if path.startswith(folder) and needle in data:
            return path, data.index(needle)
    raise AssertionError(f"nothing in {folder} holds {needle!r}")


def test_a_rotten_block_of_the_log_is_an_error_and_nothing_else_is() -> None:
    site, name = started()
    write(site, name, 0, b"good" * 1024 + b"rots" * 1024 + b"fine" * 1024)
    write(site, name, 0, b"good" * 1024)  # says that the batch before it was durable
    path, at = place_of(site, b"rotsrots", "oplog")
    site.disk.flip(path, at)
    assert site.front is not None
    export = site.front.exports.lookup(name)
    assert b"".join(export.read(0, 4096)) == b"good" * 1024
    assert b"".join(export.read(8192, 4096)) == b"fine" * 1024
    with pytest.raises(DamagedData):
        export.read(4096, 4096)


def test_a_front_refuses_a_log_whose_durable_part_is_damaged_and_changes_nothing() -> None:
    site, name = started()
    for block in range(20):
        write(site, name, block * BLOCK_BYTES, b"word" * 1024)
    path, at = place_of(site, b"wordword", "oplog")
    site.kill_front()
    site.disk.flip(path, at - 8)  # the table before the payload
    before = site.disk.snapshot()
    with pytest.raises(LogDamaged, match="damaged"):
        site.start_front()
    assert {k: v for k, v in site.disk.snapshot().items() if not k.endswith("lock")} == {
        k: v for k, v in before.items() if not k.endswith("lock")
    }


def test_a_damaged_hot_table_is_named_and_refused() -> None:
    site, name = started()
    scatter(site, name, b"one.")
    drained(site)
    path, at = place_of(site, b"one.one.", "hot")
    site.kill_front()
    site.disk.flip(path, at - BLOCK_BYTES + 100)
    with pytest.raises(DamagedData, match="hot region"):
        site.start_front()


def test_a_rotten_hot_block_is_an_error_and_nothing_else_is() -> None:
    site, name = started()
    scatter(site, name, b"one.")
    drained(site)
    path, at = place_of(site, b"one.one.", "hot")
    site.disk.flip(path, at)
    assert site.front is not None
    export = site.front.exports.lookup(name)
    assert b"".join(export.read(8192, 4096)) == b"one." * 1024
    with pytest.raises(DamagedData):
        export.read(0, 4096)


def test_both_halves_refuse_a_damaged_catalog() -> None:
    site, name = started()
    for _ in range(3):
        snapshot(site, name)
        site.drain()
    site.kill_front()
    site.kill_store()
    path = next(p for p in site.disk.snapshot() if "gen-" in p)
    site.disk.flip(path, len(site.disk.snapshot()[path]) // 2)
    starts: list[Callable[[], None]] = [site.start_store, site.start_front]
    for start in starts:
        with pytest.raises(DamagedData, match="catalog"):
            start()
        site.disk.release_locks("")
