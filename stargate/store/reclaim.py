# SPDX-License-Identifier: Apache-2.0
"""When overwritten space is fetched back (docs/design/0008): what seals open epochs, what calls for a sweep before its
time, and when the drain waits for both.

What a guest overwrites is free only after seal, fold and sweep. Each is cheapest when it is done seldom, so with much
free space they are; the less there is, the sooner they come. Near the end the drain waits for them: the log fills, and
its pacing slows the guests down (L6) instead of refusing them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from stargate.catalog.state import Epoch
from stargate.space import Level, threshold_bytes
from stargate.store.space import Space
from stargate.units import BLOCK_BYTES, CHUNK_BYTES, GiB, MiB

HOT_LIMIT_BYTES = 6 * GiB
REFS_MAX_BYTES = 16 * GiB
"""Whole chunks of open epochs: the front keeps some 200 bytes of memory for each until a fold."""

STEP_MAX_BYTES, STEP_MIN_BYTES = 8 * GiB, 64 * MiB
STEP_PART = 8
"""A sweep comes early when an eighth of what is free was stored since the last one: it costs a walk over the index."""

DEBT_PART = 2
"""What the folds to come will write takes half of what is free at most."""

SMALL_PART = 64
"""On a small file system the least step is no more than one part in this many."""

AHEAD_BYTES, AHEAD_PART = 128 * MiB, 8
"""A window of the log, at most, and what its fold adds; no more than an eighth of a small file system."""


class Reclaim:
    """Counts what was stored since the last sweep. Safe between threads: whole numbers and flags are set at once."""

    def __init__(self, appended_bytes: Callable[[], int], hot_limit_bytes: int = HOT_LIMIT_BYTES) -> None:
        """`appended_bytes`: what this process appended to the extent groups so far."""
        self._appended_bytes = appended_bytes
        self.hot_limit_bytes = hot_limit_bytes
        self.space: Space | None = None
        """None: as if there were space without end."""
        self._swept_from_bytes = 0
        self._may_free = False
        self._returning = False

    # -- news ---------------------------------------------------------------------------------------------------------

    def version_went(self) -> None:
        """A fold or a deletion took a version away: a sweep may find something."""
        self._may_free = True

    def sweep_begins(self) -> None:
        self._swept_from_bytes = self._appended_bytes()
        self._may_free = False
        self._returning = True

    def returned(self) -> None:
        """What the last sweep freed is free space now, or will not be soon."""
        self._returning = False

    # -- what to do ---------------------------------------------------------------------------------------------------

    def is_tight(self) -> bool:
        """So little is free that what the next window of the log takes would leave it nearly full."""
        if self.space is None:
            return False
        total_bytes = self.space.total_bytes()
        ahead_bytes = min(AHEAD_BYTES, total_bytes // AHEAD_PART)
        return self.space.free_bytes() < threshold_bytes(Level.NEARLY_FULL, total_bytes) + ahead_bytes

    def seal_due(self, open_epochs: Iterable[Epoch], refs: int) -> bool:
        """Whether `open_epochs`, all that have no tree yet, with `refs` whole chunks, shall be sealed and folded."""
        hot_bytes = debt_bytes = 0
        for epoch in open_epochs:
            length = sum(ref.length for ref in epoch.batches)
            hot_bytes += length
            debt_bytes += min(length * (epoch.chunk_bytes // BLOCK_BYTES), epoch.size_bytes)
        refs_bytes = refs * CHUNK_BYTES
        if hot_bytes >= self.hot_limit_bytes or refs_bytes >= REFS_MAX_BYTES:
            return True
        if self.space is None or hot_bytes + refs_bytes < self._least_bytes():
            return False
        return debt_bytes + refs_bytes >= self.space.free_bytes() // DEBT_PART

    def sweep_due(self) -> bool:
        """Whether a sweep may free much of what is still there."""
        stored_bytes = self._appended_bytes() - self._swept_from_bytes
        return self.space is not None and self._may_free and stored_bytes >= self._step_bytes()

    def is_at_work(self) -> bool:
        """Whether space comes back soon: the sweep is due, or its holes are being made."""
        return self._returning or self.sweep_due()

    def _step_bytes(self) -> int:
        assert self.space is not None
        return max(self._least_bytes(), min(STEP_MAX_BYTES, self.space.free_bytes() // STEP_PART))

    def _least_bytes(self) -> int:
        assert self.space is not None
        return min(STEP_MIN_BYTES, self.space.total_bytes() // SMALL_PART)
