# SPDX-License-Identifier: Apache-2.0
"""The short way through long runs of one-block writes: it finds what the cursor finds, and no damage more or less."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest

from stargate.content import EpochContent
from stargate.errors import LogDamaged
from stargate.fs.memdisk import MemDisk
from stargate.oplog import CONTROL, WRITE, ZERO, Append, OpLog
from stargate.oplog.format import BATCH, LogBatch
from stargate.oplog.skim import RUN_BATCHES_MIN, Run, by_disk
from stargate.units import BLOCK_BYTES, MiB
from tests.oplog.oplog_kit import FIRST, make_log, random_items

Contents = dict[int, EpochContent]


def one_block(rng: Random, handle: int | None = None) -> Append:
    data = rng.randbytes(BLOCK_BYTES)
    handle = rng.randrange(3) if handle is None else handle
    return Append(WRITE, handle, BLOCK_BYTES * rng.randrange(99), data, BLOCK_BYTES)


def busy_log(rng: Random, batches: int) -> tuple[MemDisk, OpLog]:
    """Runs of one-block writes, now and then interrupted by anything else; three segments or so, several lives."""
    disk = MemDisk()
    log = make_log(disk, segment_bytes=MiB, cap_bytes=64 * MiB)
    for _ in range(batches):
        if rng.random() < 0.02:
            log.append(random_items(rng))
        elif rng.random() < 0.01:
            data = rng.randbytes(2 * BLOCK_BYTES)  # by their sizes these two could be two one-block writes
            zero = Append(ZERO, 1, 0, None, BLOCK_BYTES)
            log.append([zero, Append(WRITE, 1, 0, data, len(data))])
        elif rng.random() < 0.004:
            log.sync()
            log.close()
            log = OpLog.open(disk, "oplog", covered=FIRST)
        else:
            log.append([one_block(rng) for _ in range(rng.choice([1, 1, 1, 2, 40]))])
    log.sync()
    return disk, log


def contents(parts: Iterable[LogBatch | Run]) -> Contents:
    """What the log says, as the front lays it into its maps."""
    found: Contents = {handle: EpochContent(16) for handle in range(3)}
    for part in parts:
        if isinstance(part, Run):
            for handle, blocks, positions, crcs in by_disk(part):
                values = [position << 32 | crc for position, crc in zip(positions, crcs, strict=True)]
                found[handle].write_sorted(blocks, values)
            continue
        for record in part.records:
            block = record.offset // BLOCK_BYTES
            if record.type == ZERO:
                found[record.handle].zero(block, record.length // BLOCK_BYTES)
            elif record.type == WRITE:
                for number, crc in enumerate(record.crcs):
                    found[record.handle].write(block + number, (record.position + number * BLOCK_BYTES) << 32 | crc)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_it_finds_what_the_cursor_finds(seed: int) -> None:
    disk, log = busy_log(Random(seed), 900)
    log.close()
    again = OpLog.open(disk, "oplog", covered=FIRST)
    parts = list(again.replayed())
    assert sum(isinstance(part, Run) for part in parts) > 3
    short, long = contents(parts), contents(again.recovered)
    for handle, content in long.items():
        assert list(short[handle].items()) == list(content.items())
        assert list(short[handle].zeros) == list(content.zeros)


def test_it_begins_in_the_middle_and_gives_each_part_once() -> None:
    rng = Random(1)
    disk = MemDisk()
    log = make_log(disk, segment_bytes=MiB, cap_bytes=64 * MiB)
    for _ in range(100):
        log.append([one_block(rng)])
    covered = log.appended
    for _ in range(300):
        log.append([one_block(rng)])
    log.sync()
    log.close()
    again = OpLog.open(disk, "oplog", covered=covered)
    parts = list(again.replayed())
    count = sum(len(p.blocks) if isinstance(p, Run) else len(p.records) for p in parts)
    assert count == 300
    assert list(again.replayed()) == []
    again.append([one_block(rng)])
    assert sum(1 for _ in again.recovered) == 300


@pytest.mark.parametrize("where", ["header", "table"])
def test_it_refuses_damage_in_the_middle_of_a_run_and_changes_nothing(where: str) -> None:
    rng = Random(2)
    disk = MemDisk()
    log = make_log(disk, segment_bytes=MiB, cap_bytes=64 * MiB)
    marks = []
    for _ in range(600):
        marks.append(log.appended)
        log.append([one_block(rng)])
    log.sync()
    log.close()
    at = marks[100].position + (9 if where == "header" else BATCH.size + 5)
    disk.flip("oplog/slot-0000", at)
    before = disk.snapshot()
    with pytest.raises(LogDamaged) as found:
        OpLog.open(disk, "oplog", covered=FIRST)
    assert found.value.detail == str(marks[100].position)
    assert disk.snapshot() == before


def test_it_leaves_an_order_of_4096_bytes_to_the_cursor() -> None:
    """By its sizes such a CONTROL is a one-block write; its bytes must be checked before anything is changed."""
    rng = Random(3)
    disk = MemDisk()
    log = make_log(disk, segment_bytes=MiB, cap_bytes=64 * MiB)
    for number in range(600):
        text = b'{"op":"' + b"x" * (BLOCK_BYTES - 9) + b'"}'
        log.append([Append(CONTROL, 0, 0, text, len(text)) if number == 50 else one_block(rng)])
    log.sync()
    log.close()
    again = OpLog.open(disk, "oplog", covered=FIRST)
    records = [r for part in again.replayed() if not isinstance(part, Run) for r in part.records]
    assert [len(r.payload or b"") for r in records if r.type == CONTROL] == [BLOCK_BYTES]


def test_it_does_not_bother_with_short_runs() -> None:
    rng = Random(4)
    disk = MemDisk()
    log = make_log(disk, segment_bytes=MiB, cap_bytes=64 * MiB)
    for number in range(500):
        zero = Append(ZERO, 1, 0, None, BLOCK_BYTES)
        log.append([zero if number % (RUN_BATCHES_MIN - 1) == 0 else one_block(rng)])
    log.sync()
    log.close()
    again = OpLog.open(disk, "oplog", covered=FIRST)
    parts = list(again.replayed())
    assert not any(isinstance(part, Run) for part in parts)
    assert len(parts) == 500
