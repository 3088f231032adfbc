# SPDX-License-Identifier: Apache-2.0
"""A sweep beside an index that has rotted."""

from __future__ import annotations

from pathlib import Path

import pytest

from stargate.errors import DamagedData
from stargate.extents.format import Kind
from stargate.extents.index import Change, MemoryIndex
from stargate.extents.tree import reachable
from tests.extents.helpers import memory_store
from tests.extents.test_sweep import entries, read_all, version

WRONG = [(Kind.CHUNK, 0), (Kind.LEAF, 0), (Kind.INNER, 1), (Kind.INNER, 2), (Kind.INNER, 5), (Kind.ROOT, 0)]


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("remembered", [False, True])
def test_it_deletes_nothing_that_is_needed_while_the_index_is_wrong_about_a_kind(
    tmp_path: Path, kind: Kind, wrong: tuple[Kind, int], remembered: bool
) -> None:
    """LMDB has no checksums, and what the index says of a rank decides what goes when (seed 384344321)."""
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    keep = version(store, 1)
    store.flush()
    expected = read_all(store, keep)
    needed = reachable(store, [keep])
    store.sweep_delete([keep], store.sweep_begin())
    for digest, location in entries(index).items():
        if location.kind != kind or (kind, location.level) == wrong:
            continue
        if not remembered:
            store.close()
            store = memory_store(tmp_path, index)
        index.commit(Change(puts=[(digest, location._replace(kind=wrong[0], level=wrong[1]))]))
        with pytest.raises(DamagedData):
            store.sweep_delete([keep], store.sweep_begin())
        assert entries(index).keys() == needed
        index.commit(Change(puts=[(digest, location)]))
    assert read_all(store, keep) == expected
