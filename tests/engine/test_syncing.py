# SPDX-License-Identifier: Apache-2.0
"""Who waits for the disk: the sync thread, or the loop while the disk is fast."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

import pytest

from stargate.catalog.state import Op, State
from stargate.errors import LogFrozen
from stargate.eventfd import EventFd
from stargate.front import ops
from stargate.front.engine import SEAL_AHEAD, SEAL_SYNC_BYTES, STEADY_SYNC_BYTES, FrontEngine
from stargate.front.layers import Layers
from stargate.front.syncing import HERE_SECONDS_MAX, FastDisk, SyncThread
from stargate.fs.memdisk import MemDisk
from stargate.oplog.format import WRITE, Append
from stargate.oplog.log import OpLog
from stargate.oplog.note import DurableNote
from stargate.units import GiB, KiB, MiB

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


def _asked_at(engine: FrontEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills the segment block by block, with a disk that is done at once; how much was unsynced at each sync."""
    found: list[int] = []

    def ask() -> None:
        found.append(engine.log.appended.position - engine.log.durable.position)
        engine.log.sync()

    monkeypatch.setattr(engine.sync, "ask", ask)
    op: Op = ops.create(engine.state, str(UUID(int=1)), GiB, 64 * KiB, export_name="d", role="active", parent=None)
    engine.append_ops([op])
    layer = engine.layers.get(op["epoch"])
    engine.log.sync()
    while engine.log.segment_left > 16 * KiB:
        engine.stage_write(1, layer, 0, BLOCK.data or b"")
        engine.commit()
    return found


def test_it_syncs_the_end_of_a_segment_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync per batch there took half a core from the guests, for half a second in eight."""
    segment_bytes = 16 * MiB
    log = OpLog.create(MemDisk(), "oplog", log_id=bytes(16), segment_bytes=segment_bytes, cap_bytes=64 * MiB)
    state = State()
    reader = cast(Any, None)
    layers = Layers(state, reader)
    engine = FrontEngine(log, state, layers, log_reader=reader, hot_reader=reader, chunks=reader)
    asked = _asked_at(engine, monkeypatch)
    assert log.appended.position - log.durable.position < SEAL_SYNC_BYTES + 8 * KiB, "the last sync is a short one"
    early = [unsynced for unsynced in asked if unsynced >= STEADY_SYNC_BYTES]
    assert len(early) == 1
    assert all(unsynced >= SEAL_SYNC_BYTES for unsynced in asked)
    assert SEAL_AHEAD // SEAL_SYNC_BYTES - 2 <= len(asked) - len(early) <= SEAL_AHEAD // SEAL_SYNC_BYTES


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
