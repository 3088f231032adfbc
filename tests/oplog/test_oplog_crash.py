# SPDX-License-Identifier: Apache-2.0
"""The log after power cuts, failing calls and rot."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from random import Random

import pytest

from stargate.errors import LogDamaged, LogFrozen, LogFull, NoSpace, StargateError
from stargate.fs.memdisk import MemDisk
from stargate.oplog import LogMark, OpLog
from stargate.oplog.reader import LogReader
from tests.oplog.oplog_kit import FIRST, SEGMENT_BYTES, Seen, as_seen, make_log, random_items, read_back, write

ROUNDS = int(os.environ.get("PRISM_TEST_ROUNDS", "150"))


def _reopen(disk: MemDisk, covered: LogMark, known_durable: int = 0) -> tuple[OpLog, list[list[Seen]]]:
    log = OpLog.open(disk, "oplog", covered=covered, known_durable=known_durable)
    return log, read_back(disk, log.appended.position, covered)


class Life:
    """One log over many crashes: what was appended since `covered`, and how much of it must survive."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.disk = MemDisk()
        self.log = make_log(self.disk, cap_bytes=8 * SEGMENT_BYTES, segment_bytes=2 * SEGMENT_BYTES)
        self.covered = FIRST
        self.appended: list[list[Seen]] = []
        self.marks: list[LogMark] = []

    def step(self) -> None:
        action = self.rng.randrange(10)
        try:
            if action < 6:
                items = random_items(self.rng)
                self.log.append(items)
                self.appended.append(as_seen(items))
                self.marks.append(self.log.appended)
            elif action < 8:
                self.log.sync()
            elif action == 8:
                self.log.prepare()
            else:
                self.release()
        except LogFull:
            self.log.sync()
            self.release()

    def durable_count(self) -> int:
        return sum(mark.position <= self.log.durable.position for mark in self.marks)

    def release(self) -> None:
        count = self.rng.randint(0, self.durable_count())
        if count:
            self.covered = self.marks[count - 1]
            del self.marks[:count], self.appended[:count]
            self.log.release(self.covered.position)

    def crash(self) -> None:
        """Cut the power and check: the durable batches are there, byte for byte, and what is there is a prefix."""
        must = self.durable_count()
        durable = self.log.durable.position
        self.disk = self.disk.crash(self.rng)
        self.log, found = _reopen(self.disk, self.covered, durable)
        assert len(found) >= must
        assert found == self.appended[: len(found)]
        del self.appended[len(found) :], self.marks[len(found) :]
        assert self.durable_count() == len(found)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_it_keeps_a_prefix_with_all_durable_batches_through_crashes(seed: int) -> None:
    rng = Random(seed)
    life = Life(rng)
    for _ in range(4):
        for _ in range(rng.randint(1, 40)):
            life.step()
        life.crash()


def _scenario(disk: MemDisk, acknowledged: list[Seen], attempted: list[Seen]) -> None:
    """Create or open, append over three segments with syncs and releases; note what a sync covered."""
    log = make_log(disk, cap_bytes=9 * SEGMENT_BYTES)
    for n in range(16):
        items = [write(n, n), write(n + 1, n + 100)]
        attempted += as_seen(items)
        log.append(items)
        if n % 3 == 2:
            log.sync()
            acknowledged[:] = attempted
            log.prepare()
    log.close()


def _calls_of_scenario() -> int:
    disk = MemDisk()
    _scenario(disk, [], [])
    return len(disk.trace)


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_it_keeps_what_it_acknowledged_whichever_call_fails(error: int, short: bool) -> None:
    for at in range(1, _calls_of_scenario() + 1):
        disk = MemDisk()
        disk.fail_at, disk.error, disk.short = at, error, short
        acknowledged: list[Seen] = []
        attempted: list[Seen] = []
        with suppress(OSError, StargateError):
            _scenario(disk, acknowledged, attempted)
        disk.fail_at = 0
        after = disk.crash(Random(at))
        if not acknowledged:
            continue
        _, batches = _reopen(after, FIRST)
        found = [seen for batch in batches for seen in batch]
        assert found[: len(acknowledged)] == acknowledged, f"call {at}"
        assert found == attempted[: len(found)], f"call {at}"


def test_it_can_be_created_again_whichever_call_of_the_creation_failed() -> None:
    whole = MemDisk()
    make_log(whole)
    for at in range(1, len(whole.trace) + 1):
        disk = MemDisk()
        disk.fail_at = at
        with pytest.raises((OSError, StargateError)):
            make_log(disk)
        disk.fail_at = 0
        after = disk.crash(Random(at))
        log = OpLog.open(after, "oplog", covered=FIRST) if OpLog.exists(after, "oplog") else make_log(after)
        log.append([write(1, 1)])
        log.sync()


def test_it_opens_again_whichever_call_of_an_open_failed() -> None:
    base = MemDisk()
    log = make_log(base)
    for n in range(20):
        log.append([write(n, n)])
    durable = log.sync()
    probe = base.crash(Random(1))
    OpLog.open(probe, "oplog", covered=FIRST)
    for at in range(1, len(probe.trace) + 1):
        disk = base.crash(Random(1))
        disk.fail_at = at
        with pytest.raises((OSError, StargateError)):
            OpLog.open(disk, "oplog", covered=FIRST)
        disk.fail_at = 0
        log, found = _reopen(disk.crash(Random(at)), FIRST, durable)
        assert len(found) == 20


@pytest.mark.parametrize("call", ["sync", "roll"])
def test_it_freezes_for_ever_after_a_failed_fdatasync(call: str) -> None:
    disk = MemDisk()
    log = make_log(disk)
    log.append([write(1, 1)])
    log.prepare()
    disk.fail_fsync = errno.EIO
    durable = log.durable
    order = {"sync": log.sync, "roll": lambda: log.append([write(n, n) for n in range(7)])}[call]
    with pytest.raises(LogFrozen):
        order()
    disk.fail_fsync = 0
    for again in (log.sync, log.prepare, lambda: log.append([write(2, 2)])):
        with pytest.raises(LogFrozen):
            again()
    assert log.durable == durable
    assert log.frozen


def test_it_freezes_after_a_short_write() -> None:
    disk = MemDisk()
    log = make_log(disk)
    disk.fail_at, disk.short = 1, True
    with pytest.raises(LogFrozen):
        log.append([write(1, 1)])
    with pytest.raises(LogFrozen):
        log.sync()


def test_it_makes_recovered_batches_truly_durable_after_a_failed_fdatasync() -> None:
    """The kernel calls pages clean that it failed to store: reopening without a reboot must not trust them."""
    disk = MemDisk()
    log = make_log(disk)
    log.append([write(1, 1)])
    disk.fail_fsync = errno.EIO
    with pytest.raises(LogFrozen):
        log.sync()
    log.close()
    disk.fail_fsync = 0
    log, found = _reopen(disk, FIRST)
    assert len(found) == 1
    _, after = _reopen(disk.crash(Random(1)), FIRST, log.durable.position)
    assert after == found


def test_it_says_no_space_and_goes_on_when_space_returns() -> None:
    disk = MemDisk(capacity_bytes=SEGMENT_BYTES + 3 * 4096)
    log = make_log(disk)
    log.append([write(0, 0, 5)])
    before = log.appended
    with pytest.raises(NoSpace):
        log.append([write(1, 1, 5)])
    assert log.appended == before
    assert log.frozen is None
    disk.capacity_bytes = None
    log.append([write(1, 1, 5)])
    assert len(read_back(disk, log.sync())) == 2


def _three_segments() -> tuple[MemDisk, OpLog]:
    disk = MemDisk()
    log = make_log(disk)
    for n in range(16):
        log.append([write(n, n)])
        log.sync()
    log.append([write(99, 99)])
    log.close()
    return disk, log


def test_it_refuses_damage_in_any_durable_header_or_table_and_changes_nothing() -> None:
    disk, log = _three_segments()
    reader_disk = disk.crash(Random(0))
    batches = list(OpLog.open(reader_disk, "oplog", covered=FIRST).recovered)
    for batch in batches[:-2]:
        index, offset = divmod(batch.position, SEGMENT_BYTES)
        for at in (0, 5, 20, 60, 64, 70, 90):
            hurt = disk.crash(Random(0))
            hurt.flip(f"oplog/slot-{index:04d}", offset + at)
            before = hurt.snapshot()
            with pytest.raises(LogDamaged):
                OpLog.open(hurt, "oplog", covered=FIRST, known_durable=log.durable.position)
            assert hurt.snapshot() == {"oplog/lock": b"", **before}


def test_it_finds_damage_below_a_later_batch_without_being_told() -> None:
    disk, _ = _three_segments()
    last = list(OpLog.open(disk.crash(Random(0)), "oplog", covered=FIRST).recovered)[-4]
    index, offset = divmod(last.position, SEGMENT_BYTES)
    for at in (0, 70):
        hurt = disk.crash(Random(0))
        hurt.flip(f"oplog/slot-{index:04d}", offset + at)
        with pytest.raises(LogDamaged):
            OpLog.open(hurt, "oplog", covered=FIRST)


def test_a_payload_that_rots_below_a_durable_position_costs_its_block_and_not_the_log() -> None:
    """Only a later batch knows that it was durable: it is neither cut off as torn nor taken for a lost chain."""
    disk, _ = _three_segments()
    whole = list(OpLog.open(disk.crash(Random(0)), "oplog", covered=FIRST).recovered)
    record = whole[-4].records[0]
    index, offset = divmod(record.position, SEGMENT_BYTES)
    disk.flip(f"oplog/slot-{index:04d}", offset + 100)
    log = OpLog.open(disk, "oplog", covered=FIRST)
    assert {batch.mark for batch in log.recovered} >= {batch.mark for batch in whole}
    log.append([write(1, 1)])
    with pytest.raises(LogDamaged):
        LogReader(disk, "oplog").read(record.position, record.length, record.crcs)


@pytest.mark.parametrize("slot", [0, 1])
def test_it_refuses_a_log_with_a_lost_segment_header(slot: int) -> None:
    disk, _ = _three_segments()
    disk.flip(f"oplog/slot-{slot:04d}", 30)
    with pytest.raises(LogDamaged):
        OpLog.open(disk, "oplog", covered=FIRST)


def test_it_refuses_a_last_segment_that_lost_its_header_but_not_its_batches() -> None:
    disk, _ = _three_segments()
    last = max(name for name in disk.list("oplog") if name.startswith("slot-"))
    disk.flip(f"oplog/{last}", 30)
    with pytest.raises(LogDamaged):
        OpLog.open(disk, "oplog", covered=FIRST)


def test_it_refuses_to_end_below_a_position_it_was_told() -> None:
    disk, log = _three_segments()
    with pytest.raises(LogDamaged):
        OpLog.open(disk, "oplog", covered=FIRST, known_durable=log.appended.position + 1)


def test_it_survives_the_loss_of_one_superblock_copy_without_using_an_incarnation_twice() -> None:
    disk = MemDisk()
    log = make_log(disk)
    log.append([write(1, 1)])
    log.sync()
    log.close()
    disk.flip("oplog/superblock", (log.incarnation % 2) * 4096 + 20)
    assert OpLog.open(disk, "oplog", covered=FIRST).incarnation > log.incarnation


def test_it_never_accepts_what_a_torn_tail_left_behind() -> None:
    """A batch of the same size over the torn one must not make the old batches behind it valid again."""
    disk = MemDisk()
    log = make_log(disk)
    for n in range(4):
        log.append([write(n, n)])
    torn = log.appended.position - 2 * (64 + 28 + 4096)
    log.close()
    disk.flip("oplog/slot-0000", torn + 200)
    log, found = _reopen(disk, FIRST)
    assert len(found) == 2
    log.append([write(9, 9)])
    log.close()
    _, found = _reopen(disk, FIRST)
    assert [batch[0].offset // 4096 for batch in found] == [0, 1, 9]


def test_a_lost_footer_is_no_loss_when_the_next_segment_names_its_end() -> None:
    disk = MemDisk()
    log = make_log(disk)
    log.append([write(0, 0, 5)])
    footer_at = log.appended.position
    log.append([write(1, 1, 5)])
    log.close()
    disk.flip("oplog/slot-0000", footer_at + 1)
    log, found = _reopen(disk, FIRST)
    assert [batch[0].offset // 4096 for batch in found] == [0, 1]
    assert len(list(LogReader(disk, "oplog").batches(FIRST, log.sync()))) == 2


def test_it_does_not_accept_a_batch_that_follows_another_one() -> None:
    """Same log, incarnation, position and number; only the chain tells that it came after other bytes."""
    disks = [MemDisk(), MemDisk()]
    for fill, disk in enumerate(disks):
        log = make_log(disk)
        log.append([write(0, fill)])
        second = log.appended.position
        log.append([write(1, 9)])
        log.close()
    size = log.appended.position - second
    foreign = disks[1].open("oplog/slot-0000").pread(size, second)
    disks[0].open("oplog/slot-0000").pwritev([foreign], second)
    _, found = _reopen(disks[0], FIRST)
    assert found == [as_seen([write(0, 0)])]
