# SPDX-License-Identifier: Apache-2.0
"""A counter that one thread waits for and others raise, also through epoll. Lives as long as the object does."""

from __future__ import annotations

import contextlib
import os


class EventFd:
    """Who may raise it keeps the object, not the number: a number that was closed may be another file's by now."""

    def __init__(self, *, waits: bool) -> None:
        """`waits`: `clear` waits until it is raised."""
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | (0 if waits else os.EFD_NONBLOCK))

    def raise_(self) -> None:
        """Any thread."""
        os.eventfd_write(self.fd, 1)

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.close(self.fd)
