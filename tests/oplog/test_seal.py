# SPDX-License-Identifier: Apache-2.0
"""The end of a segment, for an appending thread that waits for no disk: `append(wait=False)`, `seal` elsewhere."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from random import Random
from types import FrameType
from typing import Any

import pytest

from stargate.errors import LogFrozen, NoSpace
from stargate.fs.memdisk import MemDisk
from stargate.oplog import OpLog
from stargate.oplog.encode import SegmentFull
from tests.oplog.oplog_kit import FIRST, SEGMENT_BYTES, as_seen, make_log, random_items, read_back, write

TraceFunction = Callable[[FrameType, str, Any], Any]


def full_segment(disk: MemDisk) -> OpLog:
    """A log that said that its segment takes no more."""
    log = make_log(disk)
    log.append([write(0, 0, 5)])
    with pytest.raises(SegmentFull):
        log.append([write(1, 1, 5)], wait=False)
    return log


def test_it_writes_and_syncs_nothing_itself_at_the_end_of_a_segment() -> None:
    disk = MemDisk()
    log = make_log(disk)
    log.append([write(0, 0, 5)])
    before = log.appended
    disk.trace.clear()
    for _ in range(2):
        with pytest.raises(SegmentFull):
            log.append([write(1, 1, 5)], wait=False)
    assert disk.trace == []
    assert log.appended == before
    log.seal()
    calls = [op.name for op in disk.trace]
    disk.trace.clear()
    log.append([write(1, 1, 5)], wait=False)
    assert [op.name for op in disk.trace] == ["pwritev"]
    assert calls.index("fdatasync", calls.index("pwritev")) < len(calls) - 1, "footer, sync, then the next header"
    assert log.durable == before
    assert len(read_back(disk, log.sync())) == 2


@pytest.mark.parametrize("seed", range(6))
def test_it_keeps_order_and_durability_with_seals_at_any_time(seed: int) -> None:
    """As the front does it, with power cuts between all steps."""
    rng = Random(seed)
    disk = MemDisk()
    log = make_log(disk)
    appended = []
    for _ in range(60):
        items = random_items(rng)
        while True:
            try:
                log.append(items, wait=False)
                break
            except SegmentFull:
                if rng.random() < 0.5:
                    log.sync()
                    after = OpLog.open(disk.crash(rng), "oplog", covered=FIRST, known_durable=log.durable.position)
                    assert after.appended.seq >= log.durable.seq
                log.seal()
        appended += as_seen(items)
    end = log.sync()
    assert end // SEGMENT_BYTES > 3
    for found in (disk, disk.crash(rng)):
        assert [record for batch in read_back(found, end) for record in batch] == appended


def test_an_order_that_may_wait_seals_by_itself() -> None:
    disk = MemDisk()
    log = full_segment(disk)
    log.append([write(1, 1, 5)])
    assert not log.sealing
    assert len(read_back(disk, log.sync())) == 2


def test_a_seal_without_space_is_told_to_the_next_append_and_tried_again() -> None:
    disk = MemDisk(capacity_bytes=SEGMENT_BYTES + 3 * 4096)
    log = full_segment(disk)
    log.seal()
    with pytest.raises(NoSpace):
        log.append([write(1, 1, 5)], wait=False)
    disk.capacity_bytes = None
    with pytest.raises(SegmentFull):
        log.append([write(1, 1, 5)], wait=False)
    log.seal()
    log.append([write(1, 1, 5)], wait=False)
    assert len(read_back(disk, log.sync())) == 2


def test_a_seal_that_cannot_be_made_durable_freezes_the_log() -> None:
    disk = MemDisk()
    log = full_segment(disk)
    durable = log.durable
    log.prepare()
    disk.fail_fsync = errno.EIO
    log.seal()
    disk.fail_fsync = 0
    for again in (lambda: log.append([write(1, 1)], wait=False), log.sync):
        with pytest.raises(LogFrozen):
            again()
    assert log.durable == durable


def test_a_sync_thread_that_comes_while_the_next_segment_is_entered_seals_nothing_twice() -> None:
    """At every line of the step, as if the interpreter had switched threads there."""
    disk = MemDisk()
    log = full_segment(disk)
    log.seal()

    def each_line(frame: FrameType, event: str, arg: object) -> TraceFunction:
        if frame.f_code.co_name == "_enter_sealed":
            log.seal()
        return each_line

    before = sys.gettrace()
    sys.settrace(each_line)
    try:
        log.append([write(1, 1, 5)], wait=False)
    finally:
        sys.settrace(before)
    end = log.sync()
    assert not log.sealing
    assert len(read_back(disk, end)) == 2
    log.close()
    assert OpLog.open(disk, "oplog", covered=FIRST).appended.position == end
