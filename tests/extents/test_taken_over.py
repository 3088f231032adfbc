# SPDX-License-Identifier: Apache-2.0
"""A store that was taken for dead comes back in the middle of a write: nothing of its successor's is touched."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import lmdb
import pytest

from stargate.errors import NoSpace
from stargate.extents.egroups import FOLDER
from stargate.extents.format import StoreFrozen
from stargate.extents.index import Change, LmdbIndex, MemoryIndex
from stargate.extents.store import ExtentStore
from tests.extents.helpers import memory_store, noise


def take_over(path: Path, index: MemoryIndex | None = None) -> ExtentStore:
    """Somebody removed the lock "because it was stale"."""
    (path / f"{FOLDER}.lock").unlink()
    return memory_store(path, index)


def test_what_a_store_writes_after_another_took_over_lies_in_files_of_its_own(tmp_path: Path) -> None:
    index = MemoryIndex()
    old = memory_store(tmp_path, index)
    before = [old.put_chunk(noise(n)) for n in range(4)]
    old.flush()
    late = [old.put_chunk(noise(100 + n)) for n in range(4)]  # held back: not written yet
    new = take_over(tmp_path, index)
    after = [new.put_chunk(noise(200 + n)) for n in range(4)]
    new.flush()
    old.appender.spill()
    new.drop_cached(after[0])
    assert [new.read_chunk(digest) for digest in before] == [noise(n) for n in range(4)]
    assert [new.read_chunk(digest) for digest in after] == [noise(200 + n) for n in range(4)]
    old.flush()
    assert [new.read_chunk(digest) for digest in late] == [noise(100 + n) for n in range(4)]


def test_two_stores_that_begin_files_at_once_begin_different_ones(tmp_path: Path) -> None:
    index = MemoryIndex()
    old = memory_store(tmp_path, index)
    old.put_chunk(noise(0))
    old.flush()
    new = take_over(tmp_path, index)
    wanted: dict[bytes, bytes] = {}
    for n in range(80):  # 5 MiB in files of 1 MiB
        store = (old, new)[n % 2]
        wanted[store.put_chunk(noise(n))] = noise(n)
        if n % 7 == 0:
            old.flush()
            new.flush()
    old.flush()
    new.flush()
    assert {location.egroup for _, location in index.items()} >= {1, 2, 3, 4, 5}
    new.close()
    old.close()
    again = memory_store(tmp_path, index)
    assert {digest: again.read_chunk(digest) for digest in wanted} == wanted
    again.close()


def test_a_store_that_ended_leaves_its_file_to_the_next(tmp_path: Path) -> None:
    index = MemoryIndex()
    for n in range(3):
        store = memory_store(tmp_path, index)
        store.put_chunk(noise(n))
        store.flush()
        store.close()
    assert os.listdir(tmp_path / FOLDER) == ["g-00000001"]


TAKE = """
import sys
from stargate.extents.index import Change, LmdbIndex
index = LmdbIndex(sys.argv[1])
index.commit(Change(meta=(("epoch", b"new"),)))
index.close()
"""


@pytest.mark.parametrize("committed", [True, False])
def test_an_index_that_another_process_took_over_takes_nothing_of_the_one_before(
    tmp_path: Path, committed: bool
) -> None:
    index = LmdbIndex(tmp_path)
    if committed:
        index.commit(Change(meta=(("epoch", b"old"),)))
    subprocess.run([sys.executable, "-c", TAKE, str(tmp_path)], check=True, timeout=120)
    with pytest.raises(StoreFrozen, match="another store process"):
        index.commit(Change(meta=(("epoch", b"stray"),)))
    assert index.meta("epoch") == b"new"
    with pytest.raises(StoreFrozen, match="another store process"):
        index.clear()
    assert index.meta("epoch") == b"new"
    index.close()
    again = LmdbIndex(tmp_path)
    again.commit(Change(meta=(("epoch", b"next"),)))
    assert again.meta("epoch") == b"next"
    again.close()


def test_a_full_quota_is_a_lack_of_space_and_what_waited_is_stored_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMDB has a word of its own for a full disk, and none for a full quota."""
    index = LmdbIndex(tmp_path)

    def full(txn: lmdb.Transaction, change: Change) -> NoReturn:
        raise lmdb.Error(f"mdb_txn_commit: {os.strerror(errno.EDQUOT)}")

    with monkeypatch.context() as patch:
        patch.setattr(index, "_apply", full)
        with pytest.raises(NoSpace):
            index.commit(Change(meta=(("epoch", b"1"),)))
    index.commit(Change(meta=(("epoch", b"1"),)))
    assert index.meta("epoch") == b"1"
    index.close()
