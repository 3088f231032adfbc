# SPDX-License-Identifier: Apache-2.0
"""The log as its writer and its readers use it, without faults."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from crc32c import crc32c

from stargate.errors import (
    AlreadyExists,
    InvalidArgument,
    LogDamaged,
    LogFull,
    NoSpace,
    NotFound,
    OperatorError,
    Unavailable,
)
from stargate.fs.disk import OsDisk
from stargate.fs.memdisk import MemDisk, Op
from stargate.oplog import CONTROL, WRITE, ZERO, Append, LogRangeGone, LogReader, OpLog
from stargate.oplog.format import RECORD, SUPERBLOCK, SUPERBLOCK_MAGIC, BatchHeader, Superblock, parse_table
from tests.oplog.oplog_kit import FIRST, LOG_ID, SEGMENT_BYTES, as_seen, make_log, random_items, read_back, write


def test_it_gives_back_what_was_appended_over_many_segments(tmp_path: Path) -> None:
    rng = Random(11)
    disk = OsDisk(tmp_path)
    log = make_log(disk)
    appended = []
    for _ in range(60):
        items = random_items(rng)
        log.append(items)
        appended.append(as_seen(items))
    end = log.sync()
    assert end // SEGMENT_BYTES > 3
    assert read_back(disk, end) == appended
    log.close()


def test_it_says_where_each_payload_went_and_its_checksums() -> None:
    disk = MemDisk()
    log = make_log(disk)
    before = log.appended.position
    one, zero, two = log.append([write(1, 1), Append(ZERO, 7, 0, None, 8192), write(2, 2, 2)])
    log.sync()
    reader = LogReader(disk, "oplog")
    assert one.crcs == (crc32c(b"\1" * 4096),)
    assert (zero.position, zero.crcs) == (before, ())
    assert reader.read(one.position, 4096, one.crcs) == b"\1" * 4096
    assert reader.read(two.position + 4096, 4096, two.crcs[1:]) == b"\2" * 4096


def test_it_writes_a_batch_with_one_call() -> None:
    disk = MemDisk()
    log = make_log(disk)
    disk.trace.clear()
    log.append([write(n, n) for n in range(4)])
    assert [op.name for op in disk.trace] == ["pwritev"]


def test_it_takes_the_bytes_before_append_returns() -> None:
    disk = MemDisk()
    log = make_log(disk)
    buffer = bytearray(b"a" * 4096)
    placed = log.append([Append(WRITE, 1, 0, memoryview(buffer), 4096)])[0]
    buffer[:] = b"b" * 4096
    assert LogReader(disk, "oplog").read(placed.position, 4096, placed.crcs) == b"a" * 4096


def test_it_splits_a_batch_that_exceeds_a_segment() -> None:
    disk = MemDisk()
    log = make_log(disk)
    items = [write(n, n) for n in range(30)]
    assert len(log.append(items)) == 30
    assert [seen for batch in read_back(disk, log.sync()) for seen in batch] == as_seen(items)


def test_it_makes_a_segment_durable_with_its_footer_before_the_next_header() -> None:
    disk = MemDisk()
    log = make_log(disk)
    log.append([write(0, 0, 5)])
    log.prepare()
    disk.trace.clear()
    log.append([write(0, 0, 5)])
    calls = [(op.name, op.path[-4:]) for op in disk.trace]
    assert calls == [("pwritev", "0000"), ("fdatasync", "0000"), ("pwritev", "0001"), ("pwritev", "0001")]


def test_it_is_full_at_its_cap_until_released() -> None:
    log = make_log(MemDisk(), cap_bytes=2 * SEGMENT_BYTES)
    while log.used_bytes < log.cap_bytes - 8192:
        log.append([write(1, 1)])
    full = log.appended
    with pytest.raises(LogFull):
        log.append([write(0, 0)])
    assert log.appended == full
    assert log.used_bytes <= log.cap_bytes
    log.sync()
    log.release(log.durable.position)
    assert log.used_bytes == 0
    log.append([write(0, 0)])


def test_it_reuses_released_slots_instead_of_making_new_ones() -> None:
    disk = MemDisk()
    log = make_log(disk)
    for n in range(200):
        log.append([write(n, n)])
        log.sync()
        log.release(log.durable.position)
        log.prepare()
    assert len([name for name in disk.list("oplog") if name.startswith("slot-")]) <= 3


def test_it_refuses_to_release_what_is_not_durable() -> None:
    log = make_log(MemDisk())
    log.append([write(0, 0)])
    with pytest.raises(InvalidArgument):
        log.release(log.appended.position)


def test_it_tells_a_reader_that_a_released_range_is_gone() -> None:
    disk = MemDisk()
    log = make_log(disk)
    placed = log.append([write(1, 1)])[0]
    log.sync()
    reader = LogReader(disk, "oplog")
    reader.read(placed.position, 4096, placed.crcs)
    for n in range(60):
        log.append([write(n, n + 9)])
        log.release(log.sync())
    with pytest.raises(LogRangeGone):
        reader.read(placed.position, 4096, placed.crcs)
    with pytest.raises(LogRangeGone):
        list(reader.batches(FIRST, log.durable.position))


class _FullOnce(MemDisk):
    """Without space for the first bytes of the second slot, once; `meanwhile` is done while it is being made."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[Callable[[], object]] = []

    def _call(self, op: Op) -> bool:
        if self.meanwhile and (op.name, op.path) == ("pwritev", "oplog/slot-0001"):
            self.meanwhile.pop()()
            raise OSError(errno.ENOSPC, "no space", op.path)
        return super()._call(op)


def test_it_reads_a_segment_whose_slot_had_been_given_up_under_the_readers_eyes() -> None:
    disk = _FullOnce()
    log = make_log(disk)
    reader = LogReader(disk, "oplog")

    def look() -> None:
        with pytest.raises(LogRangeGone):
            reader.read(SEGMENT_BYTES, 4096, (0,))

    disk.meanwhile.append(look)
    with pytest.raises(NoSpace):
        log.prepare()
    places = [log.append([write(n, n)])[0] for n in range(9)]
    end = log.sync()
    assert end > SEGMENT_BYTES, "the second segment is in the slot that was made after all"
    assert len(list(reader.batches(FIRST, end))) == 9
    assert [reader.read(p.position, 4096, p.crcs)[0] for p in places] == list(range(9))


def test_it_never_returns_bytes_that_fail_their_checksum() -> None:
    disk = MemDisk()
    log = make_log(disk)
    placed = log.append([write(1, 1)])[0]
    log.sync()
    disk.flip("oplog/slot-0000", placed.position + 100)
    with pytest.raises(LogDamaged):
        LogReader(disk, "oplog").read(placed.position, 4096, placed.crcs)


@pytest.mark.parametrize(
    "item",
    [
        Append(WRITE, 1, 1, bytes(4096), 4096),
        Append(WRITE, 1, 0, bytes(4095), 4096),
        Append(WRITE, 1, 0, bytes(100), 100),
        Append(WRITE, 1, 0, None, 4096),
        Append(ZERO, 1, 0, None, 100),
        Append(CONTROL, 0, 0, b"", 0),
        Append(9, 0, 0, b"x", 1),
        Append(WRITE, 1, 0, bytes(65536), 65536),
    ],
)
def test_it_refuses_items_that_no_log_may_hold(item: Append) -> None:
    log = make_log(MemDisk())
    before = log.appended
    with pytest.raises(InvalidArgument):
        log.append([item])
    assert log.appended == before


def test_it_continues_with_a_higher_incarnation_after_a_restart() -> None:
    disk = MemDisk()
    log = make_log(disk)
    log.append([write(1, 1)])
    log.sync()
    log.close()
    again = OpLog.open(disk, "oplog", covered=FIRST)
    assert again.incarnation == log.incarnation + 1
    again.append([write(2, 2)])
    assert [batch.seq for batch in again.recovered] == [1]
    assert read_back(disk, again.sync()) == [as_seen([write(1, 1)]), as_seen([write(2, 2)])]


def test_it_recovers_only_what_is_not_covered() -> None:
    disk = MemDisk()
    log = make_log(disk)
    log.append([write(1, 1)])
    covered = log.appended
    log.append([write(2, 2)])
    log.sync()
    log.close()
    assert [batch.seq for batch in OpLog.open(disk, "oplog", covered=covered).recovered] == [2]


def test_it_is_opened_by_one_at_a_time() -> None:
    disk = MemDisk()
    make_log(disk)
    with pytest.raises(Unavailable):
        OpLog.open(disk, "oplog", covered=FIRST)


def test_it_is_made_by_one_at_a_time() -> None:
    disk = MemDisk()
    disk.mkdir("oplog")
    other = disk.lock("oplog/lock")
    with pytest.raises(Unavailable):
        make_log(disk)
    assert disk.list("oplog") == ["lock"]
    other.close()
    make_log(disk)


def test_it_refuses_to_create_over_a_log_or_over_its_remains() -> None:
    disk = MemDisk()
    log = make_log(disk)
    log.append([write(1, 1)])
    log.close()
    with pytest.raises(AlreadyExists):
        make_log(disk)
    disk.unlink("oplog/superblock")
    with pytest.raises(AlreadyExists):  # the second file says so
        make_log(disk)
    disk.unlink("oplog/superblock-2")
    with pytest.raises(LogDamaged):
        make_log(disk)


def test_it_says_that_there_is_no_log() -> None:
    with pytest.raises(NotFound):
        OpLog.open(MemDisk(), "oplog", covered=FIRST)


def test_it_refuses_a_newer_format() -> None:
    disk = MemDisk()
    make_log(disk).close()
    raw = bytearray(Superblock(LOG_ID, SEGMENT_BYTES, 64 * SEGMENT_BYTES, 9).pack())
    raw[len(SUPERBLOCK_MAGIC)] = 2
    raw[-4:] = crc32c(bytes(raw[:-4])).to_bytes(4, "little")
    assert len(raw) == SUPERBLOCK.size
    disk.open("oplog/superblock").pwritev([raw], 0)
    with pytest.raises(OperatorError, match="format 2"):
        OpLog.open(disk, "oplog", covered=FIRST)


def test_it_lists_only_what_it_recovered_when_it_went_on_meanwhile() -> None:
    """The log ended exactly at the start of a fresh segment; what is appended there later was not recovered."""
    disk = MemDisk()
    log = make_log(disk)
    log.append([write(0, 0, 5)])
    log.append([write(1, 1, 5)])
    log.sync()
    second = log.appended.position // SEGMENT_BYTES
    log.close()
    disk.flip(f"oplog/slot-{second:04d}", 4096)
    disk.unlink("oplog/durable")  # as if the last batch had never been synced
    again = OpLog.open(disk, "oplog", covered=FIRST)
    again.append([write(2, 2)])
    assert [batch.seq for batch in again.recovered] == [1]


def test_the_last_durable_batch_is_missed_when_it_rots_or_is_cut_off() -> None:
    disk = MemDisk()
    log = make_log(disk)
    log.append([write(0, 0, 2)])
    log.sync()
    start = log.appended.position
    log.append([write(1, 1, 2)])
    log.sync()
    log.close()
    disk.flip("oplog/slot-0000", start + 20)
    with pytest.raises(LogDamaged):
        OpLog.open(disk, "oplog", covered=FIRST)
    disk.flip("oplog/durable", 9)
    again = OpLog.open(disk, "oplog", covered=FIRST)
    assert [batch.seq for batch in again.recovered] == [1], "a damaged note says nothing"


@pytest.mark.parametrize("seed", range(20))
def test_it_survives_any_bytes_in_a_table(seed: int) -> None:
    rng = Random(seed)
    for _ in range(300):
        count = rng.randint(0, 5)
        table = b"".join(
            RECORD.pack(rng.randrange(5), 0, 0, 1, rng.getrandbits(64), rng.choice([0, 1, 4096, rng.getrandbits(64)]))
            for _ in range(count)
        ) + rng.randbytes(rng.choice([0, 0, 4, 8]))
        header = BatchHeader(1, 1, 4096, count, len(table), rng.choice([0, 4096]), 0, 0, 0)
        records = parse_table(header, table)
        if records is not None:
            assert sum(record.length for record in records if record.type != ZERO) == header.payload_bytes
