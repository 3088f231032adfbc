# SPDX-License-Identifier: Apache-2.0
"""Who waits for the disk: threads for group commit, for the end of a segment and for the making of the next one; and
the loop itself where nobody else would have to wait with it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from stargate.errors import NoSpace, StargateError
from stargate.eventfd import EventFd
from stargate.oplog.log import OpLog, SegmentFull

log = logging.getLogger(__name__)

STEADY_SYNC_SECONDS = 0.25
"""What nobody flushed is durable after about this long."""

HERE_MEAN_SECONDS = 1e-3
HERE_SECONDS_MAX = 5e-3
HERE_PAUSE_SECONDS = 1.0
"""Syncs that take longer, on average or once, are the sync thread's for a while."""


class PrepareThread(threading.Thread):
    """Has the next segment's slot ready before the end of this one. Filling one takes long, so no flush may wait behind
    it. `tick` is called whenever nothing was asked for `STEADY_SYNC_SECONDS`."""

    def __init__(self, oplog: OpLog, wake: EventFd, tick: Callable[[], None]) -> None:
        super().__init__(name="prepare", daemon=True)
        self._log = oplog
        self._wake = wake
        self._tick = tick
        self._asked = threading.Event()
        self._stopping = False
        self._error: StargateError | None = None

    def ask(self) -> None:
        self._asked.set()

    def check(self) -> None:
        """The last failure, once; otherwise SegmentFull: the slot is being made, the event tells when it is."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        self.ask()
        raise SegmentFull

    def run(self) -> None:
        while not self._stopping:
            if self._asked.wait(STEADY_SYNC_SECONDS):
                self._asked.clear()
                self._prepare()
            else:
                self._tick()

    def _prepare(self) -> None:
        try:
            self._log.prepare()
            self._error = None
        except (OSError, StargateError) as exc:
            log.warning("no next log segment yet: %s", exc)
            self._error = exc if isinstance(exc, StargateError) else NoSpace("the log cannot grow", str(exc))
        self._wake.raise_()

    def stop(self) -> None:
        """It ends by itself soon."""
        self._stopping = True


class FastDisk:
    """Whether the loop may wait for the disk itself: only while that takes less than handing it over, and after a wait
    that was felt not for a while."""

    def __init__(self) -> None:
        self._mean_seconds = 0.0
        self._not_before = 0.0

    def allowed(self, now: float) -> bool:
        return now >= self._not_before

    def took(self, started: float, now: float) -> None:
        seconds = now - started
        self._mean_seconds += (seconds - self._mean_seconds) / 16
        if seconds > HERE_SECONDS_MAX or self._mean_seconds > HERE_MEAN_SECONDS:
            self._not_before = now + HERE_PAUSE_SECONDS
            self._mean_seconds = 0.0


class SyncThread(threading.Thread):
    """Group commit: one fdatasync at a time, covering everything appended before it started (L4)."""

    def __init__(self, oplog: OpLog, wake: EventFd) -> None:
        super().__init__(name="sync", daemon=True)
        self._log = oplog
        self._wake = wake
        self._bell = EventFd(waits=True)
        self._asked = False
        self.preparer = PrepareThread(oplog, wake, self._steady)
        self._stopping = False
        self._disk = FastDisk()
        self.changed = threading.Condition()
        self.error: StargateError | None = None

    def ask(self) -> None:
        """A sync that begins after this call. Any thread."""
        if not self._asked:  # waking it costs: not once per batch while a sync is on its way
            self._asked = True
            self._bell.raise_()

    def run(self) -> None:
        self.preparer.start()
        self.preparer.ask()
        while not self._stopping:
            self._bell.clear()
            self._asked = False  # before the sync: who asks from now on wants another
            if not self._stopping:
                self._sync()
            self._tell()
            self._log.note()
            if not self._log.next_ready:
                self.preparer.ask()

    def _steady(self) -> None:
        if self._log.appended.position > self._log.durable.position:
            self.ask()

    def _sync(self) -> None:
        try:
            if self._log.sealing:
                self._log.seal()
            self._log.sync(note=False)
        except StargateError as exc:
            self._froze(exc)

    def _tell(self) -> None:
        self._wake.raise_()
        with self.changed:
            self.changed.notify_all()

    def _froze(self, exc: StargateError) -> None:
        log.critical("the log is frozen: %s", exc.message)
        self.error = exc
        self._stopping = True

    def sync_here(self) -> bool:
        """In the loop's thread, which waits for the disk: for when it has nobody else to serve meanwhile. Handing the
        sync to another thread and back costs as much as the sync itself. False: not done, `ask` for it."""
        started = time.perf_counter()
        if not self._disk.allowed(started):
            return False
        try:
            done = self._log.try_sync()
        except StargateError as exc:
            self._froze(exc)
            self.ask()  # it ends, and tells who waits
            return True
        if done:
            self._disk.took(started, time.perf_counter())
        return done

    def stop(self) -> None:
        self._stopping = True
        self._bell.raise_()
        self.preparer.stop()

    def wait_durable(self, position: int, timeout_seconds: float) -> bool:
        """Wait in another thread until `position` is durable; raises when the log froze."""
        self.ask()
        with self.changed:
            self.changed.wait_for(lambda: self.error or self._log.durable.position >= position, timeout_seconds)
        if self.error is not None:
            raise self.error
        return self._log.durable.position >= position
