# SPDX-License-Identifier: Apache-2.0
"""The index made anew from what a power cut left."""

from __future__ import annotations

from pathlib import Path

from stargate.extents.egroups import path_of
from stargate.extents.index import Change, MemoryIndex
from tests.extents.helpers import memory_store, noise


def test_it_finds_what_was_appended_inside_of_what_a_torn_extent_claims(tmp_path: Path) -> None:
    """Simulator, seed 2311271507: a power cut left a chunk's header at the end of the file, and little of the chunk.
    The next store goes on behind the end of the file, and then the index is lost.
    """
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    kept = store.put_chunk(noise(1))
    store.flush()
    torn = store.put_chunk(noise(2))
    store.flush()
    at = index.get(torn)
    assert at is not None
    store.close()
    with (tmp_path / path_of(at.egroup)).open("r+b") as file:
        file.truncate(at.offset + 20000)
    index.commit(Change(deletes=[torn]))  # the cut came before its transaction
    again = memory_store(tmp_path, index)
    small = again.put_chunk(noise(3, 4096))
    long = again.put_chunk(noise(4))
    again.flush()
    sizes = again.stats()
    assert again.rebuild() == 3
    assert [again.read_chunk(digest) for digest in (kept, small, long)] == [noise(1), noise(3, 4096), noise(4)]
    assert index.get(torn) is None
    assert again.stats() == sizes
