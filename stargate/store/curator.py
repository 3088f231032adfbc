# SPDX-License-Identifier: Apache-2.0
"""Curator's rhythm: end expired grants, sweep and account for space after versions came or went, without ever taking
much of a core.

The next run waits at least the pause it was given, and `SHARE` times as long as the last one took: large sites are
looked at more rarely, not more expensively. When the storage is full it does not wait.
"""

from __future__ import annotations

import logging
import threading

from stargate.clock import Clock
from stargate.errors import Unavailable
from stargate.space import Level
from stargate.store.accounts import Accounts
from stargate.store.grants import CatalogGrants
from stargate.store.hub import CatalogHub
from stargate.store.reclaim import Reclaim
from stargate.store.space import Space
from stargate.store.sweep import Sweeper

log = logging.getLogger(__name__)

PAUSE_SECONDS = 30.0
LOOK_SECONDS = 1.0
SHARE = 20
EARLY_SHARE = 4
"""The same for a sweep that comes early."""


class Curator(threading.Thread):
    """Scans and sweeps when the set of versions changed since the last run."""

    def __init__(
        self,
        hub: CatalogHub,
        sweeper: Sweeper,
        accounts: Accounts,
        grants: CatalogGrants,
        stopped: threading.Event,
        pause_seconds: float,
        clock: Clock,
        space: Space | None = None,
        reclaim: Reclaim | None = None,
    ) -> None:
        super().__init__(name="curator", daemon=True)
        self._hub = hub
        self._sweeper = sweeper
        self._accounts = accounts
        self._grants = grants
        self._stopped = stopped
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._space = space
        self._reclaim = reclaim

    def run(self) -> None:
        seen: frozenset[str] | None = None
        due = early = self._clock.monotonic() + self._pause_seconds
        while not self._stopped.wait(min(LOOK_SECONDS, self._pause_seconds)):
            began = self._clock.monotonic()
            if began < due and not self._is_full():
                if self._sweeps_early(began >= early):
                    self._turn(True, account=False)
                    early = self._after(began, EARLY_SHARE)
                continue
            now = self._versions()
            if self._turn(now != seen):
                seen = now
            early = self._after(began, EARLY_SHARE)
            due = max(self._after(began, 0) + self._pause_seconds, self._after(began, SHARE))

    def _after(self, began: float, share: float) -> float:
        """When the next run may begin that rests `share` times as long as this one took."""
        ended = self._clock.monotonic()
        return ended + share * (ended - began)

    def _sweeps_early(self, rested: bool) -> bool:
        """Before its time: much was stored since the last sweep. When space is scarce it does not rest, either."""
        reclaim = self._reclaim
        return reclaim is not None and (rested or reclaim.is_tight()) and reclaim.sweep_due()

    def _is_full(self) -> bool:
        try:
            return self._space is not None and self._space.level() is Level.FULL
        except OSError as exc:  # were this thread to end, nobody would sweep
            log.warning("whether the storage is full cannot be told: %s", exc)
            return False

    def _versions(self) -> frozenset[str]:
        with self._hub.lock:
            state = self._hub.state
            return frozenset([e.epoch for e in state.epochs.values() if e.root is not None] + list(state.snapshots))

    def _turn(self, changed: bool, *, account: bool = True) -> bool:
        """False: try again next time. Without `account` nobody has asked what the space is used for."""
        try:
            changed = self._grants.end_expired() > 0 or changed
            if changed:
                self._sweeper.sweep()
                if account:
                    self._accounts.scan()
            self._sweeper.last_error = ""
        except Unavailable as exc:
            log.info("%s", exc.message)
            return False
        except Exception as exc:  # whatever it is: were this thread to end, nobody would sweep, or hear of it
            log.exception("the sweep failed; it is tried again")
            self._sweeper.last_error = str(exc)
            return False
        return True
