# SPDX-License-Identifier: Apache-2.0
"""Who waits for the disk: the sync thread, or the loop while the disk is fast."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stargate.errors import LogFrozen
from stargate.eventfd import EventFd
from stargate.front.syncing import HERE_SECONDS_MAX, FastDisk, SyncThread
from stargate.fs.memdisk import MemDisk
from stargate.oplog.format import WRITE, Append
from stargate.oplog.log import OpLog
from stargate.oplog.note import DurableNote
from stargate.units import KiB

BLOCK = Append(WRITE, 1, 0, b"\1" * 4096, 4096)


@contextmanager
def syncing() -> Iterator[tuple[MemDisk, OpLog, SyncThread]]:
    disk = MemDisk()
    log = OpLog.create(disk, "oplog", log_id=bytes(16), segment_bytes=256 * KiB, cap_bytes=4096 * KiB)
    thread = SyncThread(log, EventFd(waits=False))
    thread.start()
    try:
        yield disk, log, thread
    finally:
        thread.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_it_makes_durable_what_nobody_flushes() -> None:
    with syncing() as (_, log, thread):
        log.append([BLOCK])
        with thread.changed:
            assert thread.changed.wait_for(lambda: log.durable == log.appended, 30)


def test_it_syncs_in_the_callers_thread_and_notes_it_behind() -> None:
    with syncing() as (disk, log, thread):
        log.append([BLOCK])
        assert thread.sync_here()
        assert log.durable == log.appended
        log.note()
        assert DurableNote(disk, "oplog", log.log_id).read() == log.durable.position


def test_it_does_not_wait_for_a_sync_of_the_other_thread() -> None:
    with syncing() as (_, log, thread):
        log.append([BLOCK])
        with log._sync_lock:
            answers: list[bool] = []
            caller = threading.Thread(target=lambda: answers.append(thread.sync_here()))
            caller.start()
            caller.join(30)
        assert answers == [False]


def test_a_sync_that_fails_in_the_loop_freezes_the_log_and_ends_the_thread() -> None:
    with syncing() as (disk, log, thread):
        log.append([BLOCK])
        assert thread.wait_durable(log.appended.position, 30)
        log.append([BLOCK])
        disk.fail_fsync = 5
        assert thread.sync_here()
        disk.fail_fsync = 0
        assert isinstance(thread.error, LogFrozen)
        with pytest.raises(LogFrozen):
            thread.wait_durable(log.appended.position, 30)
        thread.join(30)
        assert not thread.is_alive()


def test_a_disk_that_was_slow_is_not_waited_for_by_the_loop_for_a_while() -> None:
    disk = FastDisk()
    disk.took(10.0, 10.0 + HERE_SECONDS_MAX / 2)
    assert disk.allowed(10.1)
    disk.took(11.0, 11.0 + HERE_SECONDS_MAX * 2)
    assert not disk.allowed(11.5)
    assert disk.allowed(12.5)


def test_a_disk_that_is_slow_on_average_is_not_waited_for_by_the_loop() -> None:
    disk = FastDisk()
    now = 0.0
    for _ in range(40):
        disk.took(now, now + HERE_SECONDS_MAX / 2)
        now += 0.01
    assert not disk.allowed(now)
