# SPDX-License-Identifier: Apache-2.0
"""Extent groups in which nothing is left go; all others stay, whatever the index says."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from stargate.extents.egroups import HEAD_BYTES, EgroupFiles, path_of
from stargate.extents.index import Change, MemoryIndex
from stargate.extents.reader import ExtentReader
from stargate.extents.store import ExtentStore
from stargate.fs.disk import OsDisk
from stargate.fs.memdisk import MemDisk
from stargate.fs.survival import Way
from stargate.units import MiB
from tests.extents.helpers import memory_store, noise


def filled(store: ExtentStore, groups: int, seed: int = 0) -> list[bytes]:
    """Chunks that fill so many groups of 1 MiB and begin one more."""
    digests = [store.put_chunk(noise(seed + number)) for number in range(groups * 15 + 1)]
    store.flush()
    return digests


def drop(store: ExtentStore, keep: list[bytes]) -> None:
    """Sweep all but these, and return the space."""
    store.sweep_delete(keep, store.sweep_begin())
    store.punch()


def stored(store: ExtentStore) -> int:
    return store.stats().stored_bytes


def test_it_removes_groups_of_which_all_is_gone_and_no_other(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    digests = filled(store, 4)
    held = store.index.get(digests[20])
    assert held is not None
    drop(store, [digests[20]])
    before = stored(store)
    assert store.retire() == 3
    assert store.files.numbers() == [held.egroup, 5]
    assert before - stored(store) == 3 * HEAD_BYTES
    assert store.read_chunk(digests[20]) == noise(20)
    assert store.retire() == 0


def test_it_never_uses_a_number_again(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    filled(store, 2)
    drop(store, [])
    assert store.retire() == 2
    assert store.files.numbers() == [3]
    store.close()
    again = memory_store(tmp_path, MemoryIndex())
    filled(again, 1, 1000)
    assert again.files.numbers() == [3, 4]


def test_it_keeps_a_group_whose_space_is_owed(tmp_path: Path) -> None:
    """The front may still read what was deleted and not returned."""
    store = memory_store(tmp_path)
    filled(store, 2)
    store.sweep_delete([], store.sweep_begin())
    assert store.retire() == 0
    store.punch()
    assert store.retire() == 2


def test_it_keeps_what_holds_bytes_although_the_index_names_nothing_there(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    digests = filled(store, 2)
    store.commit_index(Change(deletes=digests))
    assert store.retire() == 0
    assert store.rebuild() == len(digests)
    assert store.read_chunk(digests[0]) == noise(0)


def test_it_keeps_a_group_of_another_process(tmp_path: Path) -> None:
    """A store that was taken for dead may come back in the middle of a write into it."""
    store = memory_store(tmp_path)
    filled(store, 2)
    store.close()
    frozen = EgroupFiles(OsDisk(tmp_path), read_only=False)
    assert frozen.claim(1) is not None
    store = memory_store(tmp_path)
    drop(store, [])
    assert store.retire() == 1
    assert 1 in store.files.numbers()
    frozen.close()
    assert store.retire() == 1


def retire_until(call: int) -> tuple[MemDisk, MemoryIndex, bytes, bool]:
    """A removal of which this call to the disk fails and is the last; False when it has fewer."""
    disk, index = MemDisk(), MemoryIndex()
    store = ExtentStore(disk, index, writable=True, egroup_bytes=MiB)
    kept = filled(store, 3)[-1]
    drop(store, [kept])
    disk.fail_at = call
    store.retire()
    return disk, index, kept, disk.fail_at == 0


@pytest.mark.parametrize("way", list(Way))
def test_it_goes_on_after_a_power_cut_at_every_call(way: Way) -> None:
    """Whatever call is the last: what is needed is readable, and the stored bytes are never told too low."""
    call, failed = 1, True
    while failed:
        disk, index, kept, failed = retire_until(call)
        store = ExtentStore(disk.crash(Random(call), way), index, writable=True, egroup_bytes=MiB)
        assert store.read_chunk(kept)
        assert stored(store) >= store.index.count() * 65536
        store.put_chunk(noise(9000))  # goes into a group of its own
        store.flush()
        store.retire()
        assert len(store.files.numbers()) <= 2
        assert store.retire() == 0
        call += 1
    assert call > 8


def test_a_reader_lets_go_of_removed_files_and_looks_again(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    digests = filled(store, 2)
    reader = ExtentReader(OsDisk(tmp_path), index)
    assert [reader.read_chunk(digest) for digest in digests] == [noise(n) for n in range(len(digests))]
    drop(store, [digests[-1]])
    assert store.retire() == 2
    filled(store, 1)  # the same content, at new places
    reader.prune()
    assert sorted(reader.files._files) == [3]
    reader.prune()
    assert [reader.read_chunk(digest) for digest in digests[:16]] == [noise(n) for n in range(16)]


def test_it_takes_a_rotten_list_for_what_it_is(tmp_path: Path) -> None:
    """Numbers that are no group's, or a group's that holds something."""
    store = memory_store(tmp_path)
    digests = filled(store, 2)
    rot = (1).to_bytes(4, "little") + (77).to_bytes(4, "little") + b"\1\2\3"
    store.commit_index(Change(meta=(("retiring", rot),)))
    assert store.retire() == 0
    assert store.files.disk.exists(path_of(1))
    assert store.read_chunk(digests[0]) == noise(0)
