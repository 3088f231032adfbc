# SPDX-License-Identifier: Apache-2.0
"""Who leads, and what a leader does each second.

The advisory lock belongs to one database session: it is free again the moment that session is gone. It keeps two
leaders from *starting*; the term keeps an old one, paused for minutes and not yet aware, from *doing*: every effect
carries it and the engine refuses a lower one than the highest it was shown.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import DatabaseError, InterfaceError, connections
from django.db.models import Q

from prism.core.choices import TaskState
from prism.core.engine import engine
from prism.core.exceptions import Refused
from prism.core.models import STALLED_AFTER, Task
from prism.core.services import measurements, orders_once
from replication import constants
from replication.cerebro import registry
from replication.cerebro.edges import guarded
from replication.models import LeaderState
from replication.services import engine_peers, queue
from stargate.errors import StargateError

log = logging.getLogger(__name__)

LOCK_KEY = 0x505249534D_4352  # "PRISM" "CR"
RESEND_MAX = 200


class Leader:
    """One contender. All calls from one thread: the session that holds the lock is its own."""

    def __init__(self, holder: str = "") -> None:
        self.holder = holder or f"{socket.gethostname()}:{os.getpid()}"
        self.term = 0  # 0 = not leading
        self._session = connections["default"].copy()
        self._backend = 0

    @property
    def leading(self) -> bool:
        return self.term > 0

    def step(self, now: datetime) -> bool:
        """Keep the lead, or try to get it. False = somebody else leads, or nobody can."""
        try:
            if self.leading:
                return self._keep(now)
            return self._acquire() and self._take_over(now)
        except (DatabaseError, InterfaceError) as error:
            log.warning("%s: the database does not answer: %s", self.holder, error)
            self._drop()
            return False

    def resign(self) -> None:
        """Give the lead back; without the database it falls back by itself."""
        if self.leading:
            with guarded("resigning"):
                LeaderState.objects.filter(pk=1, term=self.term).update(holder="")
        self._drop()

    def _acquire(self) -> bool:
        with self._session.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s), pg_backend_pid()", [LOCK_KEY])
            locked, self._backend = cursor.fetchone()
        if not locked:
            self._drop()
        return bool(locked)

    def _take_over(self, now: datetime) -> bool:
        """Raise the term above all that was ever used, in the engine first: it is what the old leader runs into."""
        LeaderState.objects.get_or_create(pk=1)
        known = LeaderState.objects.values_list("term", flat=True).get(pk=1)
        try:
            term = max(known, int(engine().status()["term"])) + 1
            engine().claim_term(term)
        except (StargateError, Refused) as error:
            log.warning("%s: cannot lead without the block engine: %s", self.holder, error)
            self._drop()
            return False
        mine = LeaderState.objects.filter(pk=1, term__lt=term)
        if not mine.update(term=term, holder=self.holder, since=now, heartbeat_at=now):
            self._drop()
            return False
        self.term = term
        log.info("%s leads, term %d", self.holder, term)
        return True

    def _keep(self, now: datetime) -> bool:
        """The session that took the lock still lives, and nobody has a newer term."""
        with self._session.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            same = cursor.fetchone()[0] == self._backend
        if same and LeaderState.objects.filter(pk=1, term=self.term).update(heartbeat_at=now):
            return True
        log.warning("%s lost the lead of term %d", self.holder, self.term)
        self._drop()
        return False

    def _drop(self) -> None:
        """Closing the session frees its lock."""
        self.term = self._backend = 0
        self._session.close()


@dataclass
class Rhythm:
    """When each duty was last done, by the injected time."""

    done_at: dict[str, datetime] = field(default_factory=dict)

    def is_due(self, duty: str, every: timedelta, now: datetime) -> bool:
        """True at most once per `every`; also after the clock was set back."""
        last = self.done_at.get(duty)
        if last is not None and last <= now < last + every:
            return False
        self.done_at[duty] = now
        return True


def tick(now: datetime, rhythm: Rhythm | None = None) -> None:
    """The leader's duties at `now`. Without `rhythm` every duty is done, whenever it was done last: what tests call."""
    rhythm = rhythm or Rhythm()
    for name, provider in registry.due_providers.items():
        _do(f"due work of {name}", provider, now)
    if rhythm.is_due("expiry", constants.EXPIRY_EVERY, now):
        for name, provider in registry.expiry_providers.items():
            _do(f"expiry of {name}", provider, now)
    if rhythm.is_due("tasks", constants.SWEEP_EVERY, now):
        _do("sending tasks again", resend_tasks, now)
    if rhythm.is_due("measurements", constants.FORGET_EVERY, now):
        _do("forgetting old measurements", measurements.prune, now)
        _do("forgetting old orders", orders_once.prune, now)
    _do("the replication queue", queue.sweep, now)
    if rhythm.is_due("pins", constants.SWEEP_EVERY, now):
        _do("telling the engine about peers", lambda _now: engine_peers.push_missing(), now)


def _do(duty: str, work: Callable[[datetime], object], now: datetime) -> None:
    with guarded(duty):
        work(now)


def resend_tasks(now: datetime) -> int:
    """Tasks whose message was lost or whose worker fell silent go to their queue again. Returns how many."""
    silent = Q(state=TaskState.RUNNING, heartbeat_at__lt=now - STALLED_AFTER)
    unheard = Q(state=TaskState.QUEUED, created_at__lt=now - constants.REENQUEUE_AFTER)
    rows = Task.objects.filter(silent | unheard, kind__in=registry.task_senders).order_by("created_at")[:RESEND_MAX]
    for task in rows:
        registry.task_senders[task.kind](str(task.uuid))
    return len(rows)
