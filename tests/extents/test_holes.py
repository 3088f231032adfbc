# SPDX-License-Identifier: Apache-2.0
"""Returning space: holes where nothing lives, whatever the table of freed ranges says, and as few as can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from stargate.extents import sweep
from stargate.extents.egroups import path_of
from stargate.extents.format import aligned, extent_bytes
from stargate.extents.index import Change, Freed, MemoryIndex
from tests.extents.helpers import CHUNK, memory_store, noise
from tests.extents.test_sweep import read_all, version


@pytest.fixture(params=["headers", "walk"])
def proof(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether ranges are dead is told by their headers, or by a walk over the index."""
    monkeypatch.setattr(sweep, "_WALK_FROM", 0 if request.param == "headers" else 1 << 30)


@pytest.mark.usefixtures("proof")
@pytest.mark.parametrize("shift", [0, 64, 4096])
def test_it_makes_no_hole_in_what_is_in_use_whatever_the_table_of_freed_ranges_says(tmp_path: Path, shift: int) -> None:
    """A rotten table names a live extent, the middle of one, the head of the file, or a file that is not there."""
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    keep = version(store, 1)
    store.flush()
    expected = read_all(store, keep)
    before = (tmp_path / path_of(1)).read_bytes()
    live = max((at for _, at in index.items()), key=lambda at: at.stored_bytes)
    wrong = [
        Freed(live.egroup, live.offset + shift, extent_bytes(live.stored_bytes)),
        Freed(1, 0, 4096),
        Freed(1, len(before) - 64, 1 << 31),
        Freed(77, 4096, 4096),
    ]
    index.commit(Change(freed=wrong))
    assert store.punch() == 0
    assert (tmp_path / path_of(1)).read_bytes() == before
    assert read_all(store, keep) == expected
    assert index.freed() == []
    assert store.returned_bytes() == 0


@pytest.mark.usefixtures("proof")
def test_it_makes_no_hole_over_what_waits_for_its_flush(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    store.put_chunk(noise(1, CHUNK))
    store.flush()
    digest = store.put_chunk(noise(2, CHUNK))
    at = store.waiting()[0]
    store.read_blocks(digest, 0, 1)
    index.commit(Change(freed=[Freed(at.egroup, at.offset, extent_bytes(at.stored_bytes))]))
    assert store.punch() == 0
    store.flush()
    store.verify(digest)


@pytest.mark.usefixtures("proof")
def test_it_returns_a_dead_extent_whose_header_is_damaged(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    digest = store.put_chunk(noise(1, CHUNK))
    store.flush()
    at = index.get(digest)
    assert at is not None
    with (tmp_path / path_of(at.egroup)).open("r+b") as file:
        file.seek(at.offset + 5)
        file.write(b"\xff\xff")
    freed = store.sweep_delete(set(), store.sweep_begin())
    assert store.punch(freed) == extent_bytes(at.stored_bytes)
    data = (tmp_path / path_of(at.egroup)).read_bytes()
    assert not any(data[at.offset : at.offset + extent_bytes(at.stored_bytes)])


@pytest.mark.usefixtures("proof")
def test_what_was_written_together_is_one_hole_around_what_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hole costs the file system a millisecond, whatever its length."""
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    digests = [store.put_chunk(noise(seed, CHUNK)) for seed in range(1, 40)]
    store.flush()
    keep = digests[20]
    live = index.get(keep)
    assert live is not None
    holes: list[Freed] = []
    punch = store.files.punch

    def noted(item: Freed) -> None:
        holes.append(item)
        punch(item)

    monkeypatch.setattr(store.files, "punch", noted)
    freed = store.sweep_delete({keep}, store.sweep_begin())
    assert len(freed) == len(digests) - 1
    assert store.punch() == sum(item.length for item in freed)
    assert len(holes) == 2
    assert holes[0].offset + holes[0].length <= live.offset
    assert holes[1].offset == aligned(live.offset + extent_bytes(live.stored_bytes))
    store.verify(keep)
    data = (tmp_path / path_of(live.egroup)).read_bytes()
    assert all(not any(data[f.offset : f.offset + f.length]) for f in freed)


def test_ranges_that_overlap_are_found_by_what_they_share() -> None:
    """A rotten table: a long range that begins long before, over short ones."""
    ranges = sweep._Ranges([Freed(1, 0, 1000), Freed(1, 100, 10), Freed(1, 200, 10), Freed(1, 2000, 10)])
    assert sorted(item.offset for item in ranges.touched(205, 206)) == [0, 200]
    assert [item.offset for item in ranges.touched(500, 600)] == [0]
    assert list(ranges.touched(1000, 2000)) == []
    assert [item.offset for item in ranges.touched(1999, 2001)] == [2000]
