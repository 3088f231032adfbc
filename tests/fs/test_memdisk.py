# SPDX-License-Identifier: Apache-2.0
"""The simulator's disk keeps what was synced and nothing else for certain."""

from __future__ import annotations

import errno
from random import Random

import pytest

from stargate.errors import Unavailable
from stargate.fs.disk import write_atomic
from stargate.fs.memdisk import MemDisk


def _disk_with(content: bytes) -> MemDisk:
    disk = MemDisk()
    write_atomic(disk, "a", content)
    return disk


def test_it_keeps_synced_bytes_through_every_crash() -> None:
    disk = _disk_with(b"x" * 2000)
    for seed in range(50):
        assert disk.crash(Random(seed)).snapshot() == {"a": b"x" * 2000}


def test_it_keeps_drops_or_tears_an_unsynced_write() -> None:
    disk = _disk_with(bytes(2048))
    disk.open("a").pwritev([b"y" * 2048], 0)
    outcomes = {disk.crash(Random(seed)).snapshot()["a"] for seed in range(200)}
    assert {bytes(2048), b"y" * 2048} < outcomes
    for outcome in outcomes:
        assert all(outcome[at : at + 512] in (bytes(512), b"y" * 512) for at in range(0, 2048, 512))


def test_it_tears_writes_at_sectors_and_pages_also_so_that_only_one_piece_is_missing() -> None:
    disk = _disk_with(bytes(4 * 4096))
    disk.open("a").pwritev([b"y" * (4 * 4096)], 0)
    seen = {
        disk.crash(Random(seed)).snapshot()["a"].replace(b"y" * 512, b"y").replace(bytes(512), b"-")
        for seed in range(1200)
    }
    assert b"y" * 8 + b"-" * 24 in seen, "a first page"
    assert b"-" * 24 + b"y" * 8 in seen, "a last page"
    assert any(len(s) == 32 and s.count(b"-") == 1 for s in seen), "all but one sector"
    assert any(s.count(b"-") == 8 and b"-" * 8 in s for s in seen), "all but one page"


def test_it_loses_and_keeps_unsynced_changes_across_files_in_any_order() -> None:
    disk = _disk_with(b"0")
    write_atomic(disk, "b", b"0")
    for path in ("a", "b"):
        file = disk.open(path)
        file.pwritev([b"1"], 0)
        file.pwritev([b"2"], 1)
    seen = {(left["a"], left["b"]) for left in (disk.crash(Random(seed)).snapshot() for seed in range(500))}
    assert {(b"0", b"12"), (b"12", b"0"), (b"02", b"12"), (b"12", b"02"), (b"1", b"0"), (b"0", b"0")} <= seen


def test_it_may_lose_a_truncation_and_keep_the_write_behind_it() -> None:
    disk = _disk_with(b"long old content")
    file = disk.open("a")
    file.truncate(0)
    file.pwritev([b"new"], 0)
    seen = {disk.crash(Random(seed)).snapshot()["a"] for seed in range(300)}
    assert {b"long old content", b"", b"new", b"newg old content"} <= seen


def test_it_may_keep_a_name_without_the_bytes_and_the_bytes_without_a_name() -> None:
    disk = MemDisk()
    disk.open("a", create=True).pwritev([b"new"], 0)
    seen = [disk.crash(Random(seed)).snapshot() for seed in range(100)]
    assert {"a": b""} in seen
    assert {} in seen


def test_crashed_disks_that_share_files_do_not_see_each_other() -> None:
    disk = _disk_with(b"old")
    first, second = (disk.crash(Random(seed), share=True) for seed in range(2))
    for live, text in ((first, b"one"), (disk, b"two")):
        file = live.open("a")
        file.pwritev([text], 0)
        file.fdatasync()
    second.flip("a", 0)
    third = first.crash(Random(3), share=True)
    assert [d.snapshot()["a"] for d in (disk, first, second, third)] == [b"two", b"one", b"nld", b"one"]


def test_it_may_lose_a_name_until_its_folder_is_synced() -> None:
    disk = MemDisk()
    disk.open("a", create=True).fdatasync()
    assert {disk.crash(Random(seed)).exists("a") for seed in range(20)} == {False, True}
    disk.sync_dir("")
    assert all(disk.crash(Random(seed)).exists("a") for seed in range(20))


def test_it_leaves_the_old_or_the_new_file_when_a_rename_is_cut_off() -> None:
    disk = _disk_with(b"old")
    file = disk.open("b", create=True)
    file.pwritev([b"new"], 0)
    file.fdatasync()
    disk.rename("b", "a")
    assert {disk.crash(Random(seed)).snapshot()["a"] for seed in range(50)} == {b"old", b"new"}


def test_it_forgets_the_bytes_of_a_failed_fdatasync_even_if_the_next_one_works() -> None:
    disk = _disk_with(b"old")
    file = disk.open("a")
    file.pwritev([b"new"], 0)
    disk.fail_fsync = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        file.fdatasync()
    disk.fail_fsync = 0
    file.fdatasync()
    assert file.pread(3, 0) == b"new"
    assert disk.crash(Random(0)).snapshot()["a"] == b"old"


def test_it_fails_the_call_it_is_told_to() -> None:
    disk = _disk_with(b"old")
    file = disk.open("a")
    disk.fail_at = 2
    assert file.pread(3, 0) == b"old"
    with pytest.raises(OSError, match="Input/output"):
        file.pread(3, 0)
    assert file.pread(3, 0) == b"old"


def test_it_writes_short_when_told_to() -> None:
    disk = _disk_with(b"0000")
    file = disk.open("a")
    disk.fail_at, disk.short = 1, True
    assert file.pwritev([b"11", b"11"], 0) == 2
    assert file.pread(4, 0) == b"1100"


def test_it_runs_out_of_space_and_keeps_the_file_as_it_was() -> None:
    disk = MemDisk(capacity_bytes=10)
    file = disk.open("a", create=True)
    file.pwritev([b"12345678"], 0)
    with pytest.raises(OSError, match="No space") as caught:
        file.pwritev([b"123"], 8)
    assert caught.value.errno == errno.ENOSPC
    assert file.size() == 8
    assert disk.free_bytes() == 2


def test_it_gives_a_lock_to_one_at_a_time_and_back_after_close_or_crash() -> None:
    disk = MemDisk()
    lock = disk.lock("lock")
    with pytest.raises(Unavailable):
        disk.lock("lock")
    disk.crash(Random(1)).lock("lock").close()
    lock.close()
    disk.lock("lock").close()
