# SPDX-License-Identifier: Apache-2.0
"""One supervisor per data root: a lock that the kernel drops with its holder, with the holder's pid inside."""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType

from prism.runtime.procinfo import ProcessId, identify

LOCK_NAME = "supervisor.lock"


class AlreadyRunning(Exception):
    """Another supervisor holds the lock."""


class SupervisorLock:
    """Context manager: holds `<root>/supervisor.lock` for as long as the block runs."""

    def __init__(self, root: Path) -> None:
        self._path = root / LOCK_NAME
        self._handle: int | None = None

    def __enter__(self) -> "SupervisorLock":
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise AlreadyRunning(str(self._path)) from error
        os.ftruncate(handle, 0)
        me = identify(os.getpid())
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "ticks": me.started_ticks if me else 0}).encode(), 0)
        self._handle = handle
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = None


def holder(root: Path) -> ProcessId | None:
    """The running supervisor of `root`; None when there is none (what a killed one wrote does not count)."""
    try:
        written = _written((root / LOCK_NAME).read_bytes())
    except OSError:
        return None
    return written if written and written.alive() else None


def _written(raw: bytes) -> ProcessId | None:
    try:
        content = json.loads(raw)
        return ProcessId(int(content["pid"]), int(content["ticks"]))
    except (ValueError, KeyError, TypeError):
        return None
