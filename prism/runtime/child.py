# SPDX-License-Identifier: Apache-2.0
"""One supervised process: started, watched, restarted with back-off, stopped in order."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prism.runtime.children import ChildSpec
from prism.runtime.logs import RotatedFile, pump
from prism.runtime.procinfo import ProcessId, identify

FIRST_DELAY_SECONDS = 0.5  # before the second restart in a row; the first one is at once, for guests wait for it
MAX_DELAY_SECONDS = 30.0
#: A child that lived this long starts again at once.
STEADY_SECONDS = 60.0
#: Deaths before the first readiness after which bringing up the site is given up.
START_ATTEMPTS = 3
_POLL_SECONDS = 0.05
#: How long a stopped child's output is still read; somebody who inherited the pipe may hold it open.
_LAST_WORDS_SECONDS = 2.0


class ChildFailed(Exception):
    """A child never became ready; the message carries the end of its log."""


@dataclass
class ChildStatus:
    """What the heartbeat file says of a child. `process` is None while it is not running."""

    state: str = "waiting"  # waiting, starting, ready, restarting, stopping, stopped
    process: ProcessId | None = None
    restarts: int = 0
    last_exit: str = ""
    since: float = 0.0


class Child:
    """Keeps one process of a site running until `stop`."""

    def __init__(self, site: str, spec: ChildSpec, log_folder: Path, say: Callable[[str], None]) -> None:
        self.spec = spec
        self.status = ChildStatus()
        self.log = RotatedFile(log_folder / f"{spec.name}.log")
        self._site = site
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failure: str | None = None

    async def start(self) -> None:
        """Start and wait until ready. Raises `ChildFailed` when it does not get there."""
        self._keeper = asyncio.create_task(self._keep())
        readiness = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait(
                {readiness, self._keeper}, timeout=self.spec.start_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            readiness.cancel()
        if not self._ready.is_set() and not self._stopping.is_set():
            reason = self._failure or f"not ready after {self.spec.start_seconds:.0f} s"
            raise ChildFailed(f"{self.spec.name}: {reason}. End of {self.log.path}:\n{self.log.tail()}")

    async def _keep(self) -> None:
        """Start it, watch it, start it again."""
        delay = 0.0
        while not self._stopping.is_set():
            started = time.monotonic()
            outcome = await self._run_once()
            if self._stopping.is_set():
                return
            if not self._ready.is_set() and self.status.restarts + 1 >= START_ATTEMPTS:
                self._failure = outcome
                return
            delay = 0.0 if time.monotonic() - started > STEADY_SECONDS else delay
            self._set("restarting", None)
            self.status.restarts += 1
            self.status.last_exit = outcome
            self._say(f"  {self._site:<6} ! {self.spec.name} {outcome}; starting it again {_in(delay)}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
            delay = min(max(delay * 2, FIRST_DELAY_SECONDS), MAX_DELAY_SECONDS)

    async def _run_once(self) -> str:
        """One life of the process; returns how it ended, in words."""
        try:
            command = await asyncio.to_thread(self.spec.prepare)
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=self.spec.environment,
                cwd="/",
                # Ctrl-C in the terminal is ours to translate, and the group is the child's own. No session of its own:
                # Linux shares the processors between sessions alike, and nice values count only within one.
                process_group=0,
            )
        except Exception as error:
            return f"could not be started: {error}"
        self._process = process
        self._set("starting", identify(process.pid))
        if process.stdout:
            task = asyncio.create_task(pump(process.stdout, self.log))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)
        watcher = asyncio.create_task(self._watch_readiness(process))
        try:
            code = await process.wait()
        finally:
            watcher.cancel()
        _end_group(process.pid)
        return _outcome(code)

    async def _watch_readiness(self, process: asyncio.subprocess.Process) -> None:
        while process.returncode is None:
            if await asyncio.to_thread(self.spec.ready):
                if self.status.restarts and self._ready.is_set():
                    self._say(f"  {self._site:<6} + {self.spec.name} is running again")
                self._set("ready", self.status.process)
                self._ready.set()
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def stop(self) -> None:
        """Ask it to end, insist after `stop_seconds`, and leave nothing of its process group behind."""
        self._stopping.set()
        process = self._process
        if process and process.returncode is None:
            self._set("stopping", self.status.process)
            identity = self.status.process
            if identity:
                identity.send(self.spec.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), self.spec.stop_seconds)
            except TimeoutError:
                self._say(
                    f"  {self._site:<6} ! {self.spec.name} did not stop in {self.spec.stop_seconds:.0f} s: killed"
                )
                if identity:
                    identity.send(signal.SIGKILL, group=True)
                await process.wait()
        if self._keeper:
            await self._keeper
        if self._pumps:
            await asyncio.wait(self._pumps, timeout=_LAST_WORDS_SECONDS)
        self._set("stopped", None)
        self.log.close()

    def _set(self, state: str, process: ProcessId | None) -> None:
        self.status.state = state
        self.status.process = process
        self.status.since = time.time()


def _end_group(leader: int) -> None:
    """End what a dead child left behind, its pool workers say. A group keeps its number as long as it has members."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _in(seconds: float) -> str:
    return f"in {seconds:g} s" if seconds else "at once"


def _outcome(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code}"
