# SPDX-License-Identifier: Apache-2.0
"""The drain meets a log that lost its chain: what stands before it is drained, then the drain rests and says so.

Trying again for ever would help nobody: a chain that is lost stays lost until `accept-loss`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress

from stargate.errors import LogDamaged, Unavailable
from stargate.internal import Line
from stargate.oplog.format import LogBatch
from stargate.store.hub import CatalogHub

log = logging.getLogger(__name__)


def before_damage(batches: Iterable[LogBatch]) -> Iterator[LogBatch]:
    """Those that can be read. Raises LogDamaged when there is none."""
    some = False
    try:
        for batch in batches:
            yield batch
            some = True
    except LogDamaged:
        if not some:
            raise


class LogWatch:
    """Where the drain cannot go on. The front is told after the second look: the first may have been a bad read."""

    def __init__(self, hub: CatalogHub) -> None:
        self._hub = hub
        self._failed_at = -1
        self._looks = 0
        self._told: Line | None = None
        self.error: LogDamaged | None = None
        """The damage; None: the log is whole as far as it was read."""

    def failed(self, covered: int, error: LogDamaged) -> None:
        """No batch follows the position `covered`, although there are durable ones."""
        self._looks = self._looks + 1 if self._failed_at == covered else 1
        self._failed_at = covered
        if self._looks >= 2 and self.error is None:
            log.critical("the drain ends for good: %s", error.message)
            self.error = error

    def rests(self, covered: int) -> bool:
        """True once the drain cannot go on from `covered`; tells each front that comes."""
        if self.error is None or self._failed_at != covered:
            return False
        front = self._hub.front
        if front is not None and front is not self._told:
            with suppress(Unavailable):
                front.send("log_damaged", position=covered, reason=self.error.message)
                self._told = front
        return True
