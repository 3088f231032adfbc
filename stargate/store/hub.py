# SPDX-License-Identifier: Apache-2.0
"""`CatalogHub`: the one door through which the catalog changes, and the news of it to the front.

A commit is one durable catalog frame; only after it the state changes and the front hears of it. Ops carry consecutive
numbers `n`;
those since the last checkpoint stay in memory, so a front that missed some (either process was killed) gets exactly
these.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from stargate.catalog.log import CatalogLog
from stargate.catalog.ownership import Ownership
from stargate.catalog.state import Op, State
from stargate.errors import InvalidArgument, LogFrozen, NoSpace, StaleToken, Unavailable
from stargate.fs.disk import Disk
from stargate.internal import Line

log = logging.getLogger(__name__)

CHECKPOINT_OPS = 2000

RECENT_OPS_MAX = 4 * CHECKPOINT_OPS
"""Ops kept for a front that has not acknowledged them; one that is further behind starts anew from the catalog."""


class CatalogHub:
    """State plus catalog file plus the connected front. `lock` guards the state; commits are whole under it."""

    def __init__(self, disk: Disk, make_room: Callable[[], bool] = lambda: False) -> None:
        """`make_room` is asked when a commit finds no space; True when there is some now."""
        self._make_room = make_room
        self._log, checkpoint, ops = CatalogLog.open(disk, "catalog")
        self.state = State.from_dict(checkpoint) if checkpoint is not None else State()
        for op in ops:
            self.state.apply(op)
        if self._log.foreign:
            self._log.checkpoint(self.state.to_dict())
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._recent: deque[Op] = deque(map(_told, ops), maxlen=RECENT_OPS_MAX)
        self._since_checkpoint = len(ops)
        self._front: Line | None = None
        self._acked = 0  # unknown until a front says so: one may be running that has not heard of the last ops
        self._after_ack: list[tuple[int, Callable[[], None]]] = []
        self._ownership = Ownership(disk, "catalog/lock")
        self.on_frozen: Callable[[], object] = lambda: None
        """Called when a commit ended this process' right to make any, whoever wanted it: a drain, an order, a peer."""
        self.token = self.state.token + 1
        self.commit({"op": "token", "token": self.token})

    def commit(self, op: Op) -> int:
        """Durable, applied, told; returns its number. Raises StaleToken when a newer store process took over, NoSpace
        with nothing changed, LogFrozen: this process takes nothing more."""
        try:
            return self._commit(op)
        except (StaleToken, LogFrozen):
            self.on_frozen()  # the file may hold the op: a front that read it would be sent away for ever
            raise

    def _commit(self, op: Op) -> int:
        with self.lock:
            if op["op"] != "token" and self.state.token != self.token:
                raise StaleToken("another store process has taken over this data folder; this one stops")
            self._ownership.check()
            op = {**op, "n": self.state.n + 1}
            self._append(op)
            self._enter(op)
            told = _told(op)
            self._recent.append(told)
            self._since_checkpoint += 1
            if self._front is not None:
                self._tell(told)
            self._maybe_checkpoint()
            self.changed.notify_all()
            return int(op["n"])

    def _enter(self, op: Op) -> None:
        """In the file it is already: what fails from here on leaves this process behind it, and ends it."""
        try:
            self._ownership.check()  # nobody is told of what was written into a folder that is another's by now
            self.state.apply(op)
        except OSError as exc:
            raise self._log.give_up(f"whether this folder is still this store's cannot be read: {exc}") from exc
        except BaseException as exc:
            self._log.give_up(str(exc))
            raise

    def check_owner(self) -> None:
        """Before work that writes. Raises StaleToken when another store process has taken over."""
        self._ownership.check()

    def _append(self, op: Op) -> None:
        try:
            self._log.append([op])
        except NoSpace:
            if not self._make_room():
                raise
            self._log.append([op])

    def _maybe_checkpoint(self) -> None:
        """Fold the ops into one state record; only what the front has acknowledged may leave memory."""
        if self._since_checkpoint < CHECKPOINT_OPS:
            return
        try:
            self.checkpoint()
        except NoSpace as exc:  # the commit itself is durable
            log.warning("%s", exc.message)

    def checkpoint(self) -> None:
        """A new catalog file of the state in memory. Raises NoSpace, LogFrozen."""
        self._since_checkpoint = 0
        try:
            self._log.checkpoint(self.state.to_dict())
        except InvalidArgument as exc:
            log.error("the catalog keeps its old file, no checkpoint: %s", exc.message)
            return
        while self._recent and self._recent[0]["n"] <= self._acked:
            self._recent.popleft()

    def _tell(self, op: Op) -> None:
        try:
            if self._front is not None:
                self._front.send("op", op=op)
        except Unavailable:
            log.info("the front is gone")
            self._front = None

    # -- the front ----------------------------------------------------------------------------------------------------

    def attach(self, line: Line, n: int, applied: int) -> bool:
        """A front that was told everything up to `n` and has applied it up to `applied` connected. False: it must
        start anew
        (it was told to).

        It holds the log's lock, so it is the only one that reads. An ended connection says nothing: the process may
        live on.
        """
        with self.lock:
            first = self._recent[0]["n"] if self._recent else self.state.n + 1
            if n > self.state.n or n < first - 1:
                line.send("welcome", restart=True, n=self.state.n, ops=[])
                return False
            line.send("welcome", n=self.state.n, ops=[op for op in self._recent if op["n"] > n])
            self._front = line
        self.acked(applied)
        return True

    def detach(self, line: Line) -> None:
        with self.lock:
            if self._front is line:
                self._front = None

    @property
    def front(self) -> Line | None:
        return self._front

    def acked(self, n: int) -> None:
        """The front has applied ops up to `n`: what waited for that may go on."""
        with self.lock:
            self._acked = max(self._acked, n)
            self.changed.notify_all()
            due = [action for wanted, action in self._after_ack if wanted <= self._acked]
            self._after_ack = [(w, a) for w, a in self._after_ack if w > self._acked]
        for action in due:
            action()

    def after_ack(self, n: int, action: Callable[[], None]) -> None:
        """Run `action` once no front reads any more what op `n` took away. Without a front that is when the next one
        came."""
        with self.lock:
            if self._acked < n:
                self._after_ack.append((n, action))
                return
        action()

    def wait_acked(self, n: int, timeout_seconds: float) -> bool:
        """Wait until the front has applied ops up to `n`; False when it has not in time."""
        with self.changed:
            return self.changed.wait_for(lambda: self._acked >= n, timeout_seconds)

    def close(self) -> None:
        self._log.close()


def _told(op: Op) -> Op:
    """What the front hears: the log ops of a drained window are its own."""
    return {k: v for k, v in op.items() if k != "log_ops"}
