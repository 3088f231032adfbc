# SPDX-License-Identifier: Apache-2.0
"""The threads that wait for the disk so that the loop does not: group commit and the end of a segment, and the making
of the next one.
"""

from __future__ import annotations

import logging
import os
import threading

from stargate.errors import NoSpace, StargateError
from stargate.oplog.log import OpLog, SegmentFull

log = logging.getLogger(__name__)

STEADY_SYNC_SECONDS = 0.25
"""What nobody flushed is durable after about this long."""


class PrepareThread(threading.Thread):
    """Has the next segment's slot ready before the end of this one. Filling one takes long, so no flush may wait behind
    it."""

    def __init__(self, oplog: OpLog, wake_fd: int) -> None:
        super().__init__(name="prepare", daemon=True)
        self._log = oplog
        self._wake_fd = wake_fd
        self._asked = threading.Event()
        self._stopping = False
        self._error: StargateError | None = None

    def ask(self) -> None:
        self._asked.set()

    def check(self) -> None:
        """The last failure, once; otherwise SegmentFull: the slot is being made, `wake_fd` tells when it is."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        self.ask()
        raise SegmentFull

    def run(self) -> None:
        while self._asked.wait() and not self._stopping:
            self._asked.clear()
            try:
                self._log.prepare()
                self._error = None
            except (OSError, StargateError) as exc:
                log.warning("no next log segment yet: %s", exc)
                self._error = exc if isinstance(exc, StargateError) else NoSpace("the log cannot grow", str(exc))
            os.eventfd_write(self._wake_fd, 1)

    def stop(self) -> None:
        self._stopping = True
        self._asked.set()


class SyncThread(threading.Thread):
    """Group commit: one fdatasync at a time, covering everything appended before it started (L4)."""

    def __init__(self, oplog: OpLog, wake_fd: int) -> None:
        super().__init__(name="sync", daemon=True)
        self._log = oplog
        self._wake_fd = wake_fd
        self._asked = threading.Event()
        self.preparer = PrepareThread(oplog, wake_fd)
        self._stopping = False
        self.changed = threading.Condition()
        self.error: StargateError | None = None

    def ask(self) -> None:
        if not self._asked.is_set():  # setting takes a lock and wakes: not once per batch while a sync is on its way
            self._asked.set()

    def run(self) -> None:
        self.preparer.start()
        self.preparer.ask()
        while not self._stopping:
            asked = self._asked.wait(STEADY_SYNC_SECONDS)
            self._asked.clear()
            if asked or self._log.appended.position > self._log.durable.position:
                self._sync()
                if not self._log.next_ready:
                    self.preparer.ask()

    def _sync(self) -> None:
        try:
            if self._log.sealing:
                self._log.seal()
            self._log.sync()
        except StargateError as exc:
            log.critical("the log is frozen: %s", exc.message)
            self.error = exc
            self._stopping = True
        os.eventfd_write(self._wake_fd, 1)
        with self.changed:
            self.changed.notify_all()

    def stop(self) -> None:
        self._stopping = True
        self._asked.set()
        self.preparer.stop()

    def wait_durable(self, position: int, timeout_seconds: float) -> bool:
        """Wait in another thread until `position` is durable; raises when the log froze."""
        self._asked.set()
        with self.changed:
            self.changed.wait_for(lambda: self.error or self._log.durable.position >= position, timeout_seconds)
        if self.error is not None:
            raise self.error
        return self._log.durable.position >= position
