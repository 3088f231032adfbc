# SPDX-License-Identifier: Apache-2.0
"""Rotten bytes in log, hot tier and catalog: found, named, never served, and nothing else suffers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stargate.errors import DamagedData
from stargate.units import BLOCK_BYTES
from tests.engine.harness import Site
from tests.engine.test_halves import create, drained, scatter, snapshot, started, write


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


@pytest.mark.parametrize("copies", [1, 2])
def test_a_damaged_hot_table_refuses_its_blocks_at_most(copies: int) -> None:
    site, name = started()
    other = create(site)
    scatter(site, name, b"one.")
    drained(site)
    write(site, other, 0, b"else" * 1024)
    write(site, name, 4096, b"newer..." * 512)
    assert site.store is not None
    ref = next(e.batches[0] for e in site.store.hub.state.epochs.values() if e.batches)
    site.kill_front()
    for place in (ref.offset + 100, ref.offset + ref.length - BLOCK_BYTES + 100)[:copies]:
        site.disk.flip(f"hot/r-{ref.region:08d}", place)
    site.start_front()
    blocks = site.blocks(name)
    expected = [b"newer..." * 512 if n == 1 else b"one." * 1024 if n % 2 == 0 else bytes(4096) for n in range(128)]
    assert all(found in (None, block) for found, block in zip(blocks, expected, strict=True))
    assert blocks[1] == expected[1]
    if copies == 1:
        assert None not in blocks
    else:
        assert blocks[0] is blocks[3] is None, "the table that is gone may have named any block that nobody named since"
    assert site.content(other)[:4096] == b"else" * 1024


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
