# SPDX-License-Identifier: Apache-2.0
"""One thread at a time: the engine's threads as tasks that hand over a baton, so that a seed decides who runs when.

A task runs in a thread of its own, but only between `step` (the world gives it the baton) and the next point where it
gives it back: before a call of the disk or of a stream, or when it waits. While it is inside an `Atomic` (which stands
for the engine's locks there) it keeps the baton, so no other task ever finds a lock taken.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from random import Random
from types import TracebackType

from tests.sim.clock import VirtualClock

STUCK_SECONDS = 60.0
"""Real time after which a task that does not give the baton back is a deadlock of the simulation."""


class Killed(BaseException):
    """The task's process is gone: nothing of it runs on but what unwinds its stack."""


class Task:
    """A thread of a simulated process. `error` is what ended it, None while it runs and after a good end."""

    def __init__(self, baton: Baton, owner: object, name: str, body: Callable[[], object]) -> None:
        self.owner = owner
        self.name = name
        self.error: BaseException | None = None
        self.done = False
        self.killed = False
        self.waits: BatonCondition | None = None
        self.deadline: float | None = None
        self.go = threading.Semaphore(0)
        self._baton = baton
        self._body = body
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        self.go.acquire()
        try:
            if not self.killed:
                self._body()
        except Killed:
            pass
        except BaseException as exc:
            self.error = exc
        self.done = True
        self._baton.back.release()


class Baton:
    """Who may run. `pauses`: how often (0 to 1) a task gives the baton back at a point where it may."""

    def __init__(self, clock: VirtualClock, rng: Random, *, pauses: float) -> None:
        self.clock = clock
        self.back = threading.Semaphore(0)
        self.tasks: list[Task] = []
        self.current: Task | None = None
        self.depth = 0
        self.handovers = 0
        self._rng = rng
        self._pauses = pauses

    def spawn(self, owner: object, name: str, body: Callable[[], object]) -> Task:
        task = Task(self, owner, name, body)
        self.tasks.append(task)
        task.thread.start()
        return task

    def ready(self) -> list[Task]:
        """Tasks that would get on with the baton."""
        now = self.clock.monotonic()
        return [t for t in self.tasks if t.waits is None or (t.deadline is not None and t.deadline <= now)]

    def step(self, task: Task) -> None:
        """Let `task` run to its next point; it leaves the list when it has ended."""
        task.waits, task.deadline = None, None
        self.handovers += 1
        self.current = task
        task.go.release()
        if not self.back.acquire(timeout=STUCK_SECONDS):
            frame = sys._current_frames().get(task.thread.ident or 0)
            raise AssertionError(f"{task.name} keeps the baton:\n" + "".join(traceback.format_stack(frame)))
        self.current = None
        if task.done:
            task.thread.join()
            self.tasks.remove(task)

    def kill(self, owner: object) -> None:
        """The process `owner` is gone: its tasks unwind, without another call of disk or stream."""
        for task in [t for t in self.tasks if t.owner is owner]:
            task.killed = True
            while not task.done:
                self.step(task)

    # -- called by tasks

    def point(self) -> None:
        """A place where another task may come first."""
        task = self.current
        if task is not None and self.depth == 0 and self._rng.random() < self._pauses:
            self.hand_over(task)

    def hand_over(self, task: Task) -> None:
        """Give the baton back; returns when the world gives it again. Raises Killed once, when it never will."""
        if task.killed:
            return
        self.back.release()
        task.go.acquire()
        if task.killed:
            raise Killed

    def require_alive(self) -> None:
        """For calls that reach outside of a process: raises Killed in one that is gone."""
        if self.current is not None and self.current.killed:
            raise Killed


class Atomic:
    """Stands for a lock: whoever is inside keeps the baton. Reentrant, and shared by as many as like."""

    def __init__(self, baton: Baton) -> None:
        self.baton = baton

    def __enter__(self) -> bool:
        self.baton.depth += 1
        return True

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.baton.depth -= 1


class BatonCondition(threading.Condition):
    """A condition whose waiters hand the baton over. Waits are over at a `notify_all`, or by the virtual clock."""

    def __init__(self, baton: Baton) -> None:
        super().__init__()
        self._baton = baton
        self._atomic = Atomic(baton)

    def __enter__(self) -> bool:
        self._baton.point()
        return self._atomic.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._atomic.__exit__(kind, exc, trace)

    def wait(self, timeout: float | None = None) -> bool:
        baton = self._baton
        task = baton.current
        assert task is not None, "the world itself waits for nothing"
        task.waits = self
        task.deadline = None if timeout is None else baton.clock.monotonic() + timeout
        depth, baton.depth = baton.depth, 0
        try:
            baton.hand_over(task)
        finally:
            baton.depth = depth
        return True

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:  # type: ignore[override]
        end = None if timeout is None else self._baton.clock.monotonic() + timeout
        while not (found := predicate()):
            left = None if end is None else end - self._baton.clock.monotonic()
            if left is not None and left <= 0:
                return found
            self.wait(left)
        return found

    def notify_all(self) -> None:
        for task in self._baton.tasks:
            if task.waits is self:
                task.waits, task.deadline = None, None
