# SPDX-License-Identifier: Apache-2.0
"""The superblock's two files: either is enough, a start heals the other, and no crash takes both."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest

from stargate.errors import LogDamaged, LogFrozen, NotFound, Unavailable
from stargate.fs.disk import File
from stargate.fs.memdisk import MemDisk
from stargate.oplog import OpLog
from stargate.oplog.format import first_mark
from stargate.oplog.superblock import SUPERBLOCK_FILES, bad_copies, load_superblock, superblock_copies
from stargate.scrub import checks
from tests.oplog.oplog_kit import FIRST, make_log, read_back, write

PATHS = tuple(f"oplog/{name}" for name in SUPERBLOCK_FILES)


def _log(starts: int = 1) -> tuple[MemDisk, int]:
    """A closed log with one durable batch, and its incarnation."""
    disk = MemDisk()
    log = make_log(disk)
    for _ in range(starts - 1):
        log.close()
        log = OpLog.open(disk, "oplog", covered=FIRST)
    log.append([write(1, 1)])
    log.sync()
    log.close()
    return disk, log.incarnation


def _bad(disk: MemDisk) -> list[int]:
    return bad_copies(superblock_copies(disk, "oplog"))


def _lose(disk: MemDisk, path: str, how: str) -> None:
    if how == "removed":
        disk.unlink(path)
        return
    file = disk.open(path)
    if how == "emptied":
        file.truncate(0)
    else:
        file.pwritev([bytes(file.size())], 0)
    file.fdatasync()
    file.close()


@pytest.mark.parametrize("starts", [1, 2, 3])
@pytest.mark.parametrize("how", ["zeroed", "emptied", "removed"])
@pytest.mark.parametrize("path", PATHS)
def test_it_opens_with_either_file_and_heals_the_other(path: str, how: str, starts: int) -> None:
    disk, incarnation = _log(starts)
    whole = disk.snapshot()[path]
    _lose(disk, path, how)
    assert len(_bad(disk)) == 2
    log = OpLog.open(disk, "oplog", covered=FIRST)
    assert log.incarnation == incarnation + 1
    assert len(read_back(disk, log.appended.position)) == 1
    log.close()
    assert _bad(disk) == []
    healed = disk.crash(Random(1)).snapshot()[path]
    assert len(healed) == len(whole)
    other = next(p for p in PATHS if p != path)
    _lose(disk, other, how)
    log = OpLog.open(disk, "oplog", covered=FIRST)
    assert log.incarnation == incarnation + 2, "the healed file says all that the lost one said"
    log.close()


@pytest.mark.parametrize("how", ["zeroed", "emptied"])
def test_the_loss_of_both_files_is_damage_and_nothing_is_written(how: str) -> None:
    disk, _ = _log()
    for path in PATHS:
        _lose(disk, path, how)
    before = disk.snapshot()
    with pytest.raises(LogDamaged, match="superblock"):
        load_superblock(disk, "oplog")
    with pytest.raises(NotFound):  # or it would be taken for one that was never handed out: see `open_log`
        OpLog.open(disk, "oplog", covered=FIRST)
    assert disk.snapshot() == before


def test_a_log_of_an_older_engine_gets_its_second_file_at_the_next_start() -> None:
    disk, incarnation = _log(2)
    disk.unlink(PATHS[1])
    disk.sync_dir("oplog")
    assert _bad(disk) == [2, 3]
    OpLog.open(disk, "oplog", covered=FIRST).close()
    disk = disk.crash(Random(2))
    assert _bad(disk) == []
    assert disk.snapshot()[PATHS[0]] == disk.snapshot()[PATHS[1]]
    # The older engine starts once more, and knows the first file only.
    second = disk.snapshot()[PATHS[1]]
    OpLog.open(disk, "oplog", covered=FIRST).close()
    file = disk.open(PATHS[1])
    file.pwritev([second], 0)
    file.close()
    assert len(_bad(disk)) == 1
    log = OpLog.open(disk, "oplog", covered=FIRST)
    assert log.incarnation == incarnation + 3
    log.close()
    assert _bad(disk) == []


def test_copies_of_another_log_do_not_count() -> None:
    disk, incarnation = _log()
    other, log_id = MemDisk(), bytes(16)
    OpLog.create(other, "oplog", log_id=log_id, segment_bytes=32 * 1024, cap_bytes=1 << 20).close()
    for _ in range(5):
        OpLog.open(other, "oplog", covered=first_mark(log_id)).close()
    file = disk.open(PATHS[1])
    file.pwritev([other.snapshot()[PATHS[1]]], 0)
    file.close()
    assert _bad(disk) == [2, 3]
    log = OpLog.open(disk, "oplog", covered=FIRST)
    assert log.incarnation == incarnation + 1
    log.close()
    assert _bad(disk) == []


@pytest.mark.parametrize("lost", [None, *PATHS])
def test_a_start_cut_off_at_any_call_leaves_a_log_that_opens(lost: str | None) -> None:
    """With all files whole, and while it heals either of them; no incarnation is ever given out twice."""
    calls = 0
    while True:
        calls += 1
        disk, incarnation = _log(2)
        if lost is not None:
            disk.unlink(lost)
            disk.sync_dir("oplog")
        disk.fail_at = calls
        with suppress(LogFrozen, OSError, Unavailable):
            OpLog.open(disk, "oplog", covered=FIRST).close()
        if disk.fail_at:
            break
        for seed in range(6):
            print(f"call {calls}, seed {seed}")
            after = disk.crash(Random(seed))
            log = OpLog.open(after, "oplog", covered=FIRST)
            assert log.incarnation > incarnation
            assert len(read_back(after, log.appended.position)) == 1
            log.close()
            assert _bad(after) == []
    assert calls > 10


def test_a_full_disk_keeps_no_older_log_from_opening() -> None:
    disk, _ = _log(2)
    disk.unlink(PATHS[1])
    disk.sync_dir("oplog")
    disk.capacity_bytes = sum(map(len, disk.snapshot().values()))
    OpLog.open(disk, "oplog", covered=FIRST).close()
    assert _bad(disk) == [2, 3]
    disk.capacity_bytes = None
    OpLog.open(disk, "oplog", covered=FIRST).close()
    assert _bad(disk) == []


def test_a_scrub_finds_nothing_when_a_front_starts_between_its_looks_at_the_two_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found by the simulator, seed 2311750092: the first file was read before the start, the second after it."""
    disk, incarnation = _log(starts=1)
    opened = disk.open
    started: list[OpLog] = []

    def open_file(path: str, **how: bool) -> File:
        if path == PATHS[1] and not started:
            monkeypatch.undo()
            started.append(OpLog.open(disk, "oplog", covered=FIRST))
        return opened(path, **how)

    monkeypatch.setattr(disk, "open", open_file)
    assert checks.superblock(disk) == {}
    assert started[0].incarnation == incarnation + 1
    started[0].close()
    _lose(disk, PATHS[0], "zeroed")
    assert list(checks.superblock(disk)) == ["superblock:0", "superblock:1"]
