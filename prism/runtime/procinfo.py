# SPDX-License-Identifier: Apache-2.0
"""Who is process n? A pid alone is not an identity: numbers are used again. Pid and start time together are."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_STATE_FIELD = 2
_START_FIELD = 21


@dataclass(frozen=True)
class ProcessId:
    """A process for good: its number and the kernel's start time of it (clock ticks since boot)."""

    pid: int
    started_ticks: int

    def alive(self) -> bool:
        return identify(self.pid) == self

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signal it (or its whole group) if it is still the one we mean; a process that is gone is no error."""
        if not self.alive():
            return
        try:
            if group and os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return


def identify(pid: int) -> ProcessId | None:
    """The process that has this number now; None when there is none, or only its unreaped remains."""
    try:
        raw = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold blanks and parentheses itself; what follows the last one is regular.
    fields = ["", "", *raw.rpartition(")")[2].split()]
    if len(fields) <= _START_FIELD or fields[_STATE_FIELD] in ("Z", "X"):
        return None
    return ProcessId(pid, int(fields[_START_FIELD]))


def processes_in(folder: Path, program: str) -> list[ProcessId]:
    """Processes of this program (the kernel's short name) whose working folder this is, as far as we may look."""
    wanted = os.path.realpath(folder)
    found: list[ProcessId] = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        process = identify(int(entry))
        try:
            same = Path(f"/proc/{entry}/comm").read_text(encoding="utf-8", errors="replace").strip() == program
            if process and same and os.readlink(f"/proc/{entry}/cwd") == wanted and process.alive():
                found.append(process)
        except OSError:
            continue
    return found


def wait_gone(processes: list[ProcessId], *, timeout_seconds: float) -> list[ProcessId]:
    """Wait until all are gone; returns those that are still there at the end."""
    deadline = time.monotonic() + timeout_seconds
    left = [process for process in processes if process.alive()]
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [process for process in left if process.alive()]
    return left
