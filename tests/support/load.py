# SPDX-License-Identifier: Apache-2.0
"""Stamped writers over several lives of the same disks: cut off, sent to another site, taken back to an older point."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from stargate.nbd.client import NbdClient
from tests.support.oracle import BLOCK, Journal, StampedWriter, judge, read_stamp, wait_writes

#: Two cores carry two whole sites and the writers: these need not be as quick as they can.
PACE_SECONDS = 0.004

Open = Callable[[str], NbdClient]


class Load:
    """`writers` writers on the first `blocks` blocks of each of `exports`, one journal each over all rounds."""

    def __init__(
        self,
        exports: Sequence[str],
        *,
        blocks: int,
        writers: int = 2,
        seed: int = 1,
        pace_seconds: float = PACE_SECONDS,
        fua_every: int = 0,
    ) -> None:
        self.exports = list(exports)
        self.acknowledged = 0  # writes, over all ended rounds
        self._blocks = blocks
        self._seed = seed
        self._pace_seconds = pace_seconds
        self._fua_every = fua_every
        self._journals = [Journal(number) for number in range(writers)]
        self._next = [1] * writers
        self._running: list[StampedWriter] = []

    def start(self, open_export: Open) -> None:
        """A new round on the site that `open_export` reaches; returns when every writer has written."""
        self._running = [
            StampedWriter(
                journal.writer,
                len(self._journals),
                lambda disk: open_export(self.exports[disk]),
                len(self.exports),
                self._blocks,
                seed=self._seed,
                flush_every=25,
                start_number=self._next[journal.writer],
                pace_seconds=self._pace_seconds,
                fua_every=self._fua_every,
            )
            for journal in self._journals
        ]
        for writer in self._running:
            writer.start()
        self.go_on(30)

    def go_on(self, writes: int) -> None:
        """Until each writer has that many writes more."""
        wait_writes(self._running, writes)

    def stop(self) -> int:
        """End the round. Returns how many writers had been cut off by then."""
        for writer, journal in zip(self._running, self._journals, strict=True):
            writer.stop()
            journal.writes += writer.journal.writes
            self.acknowledged += sum(write.acknowledged is not None for write in writer.journal.writes)
            self._next[journal.writer] = max([self._next[journal.writer], *(w.number + 1 for w in journal.writes)])
        cut = sum(writer.error is not None for writer in self._running)
        self._running = []
        return cut

    def wait_cut(self, seconds: float = 120.0) -> None:
        """Until the server has cut every writer off; ends the round."""
        deadline = time.monotonic() + seconds
        for writer in self._running:
            writer.join(max(0.0, deadline - time.monotonic()))
            assert writer.error is not None, "a writer was not cut off"
        self.stop()

    def judge(
        self, open_export: Open, names: Sequence[str], *, ordered_at: float, returned_at: float
    ) -> dict[int, int]:
        """Judge what `names` (in the order of the exports) hold; see the oracle."""
        journals = [
            Journal(journal.writer, journal.writes + (self._running[at].journal.writes if self._running else []))
            for at, journal in enumerate(self._journals)
        ]
        size = self._blocks * BLOCK
        with ExitStack() as stack:
            held = [stack.enter_context(open_export(name)).read(0, size) for name in names]
        return judge(
            lambda disk, block: held[disk][block * BLOCK : (block + 1) * BLOCK],
            journals,
            len(names),
            self._blocks,
            ordered_at=ordered_at,
            returned_at=returned_at,
        )

    def judge_everything(self, open_export: Open, names: Sequence[str] = ()) -> dict[int, int]:
        """Every acknowledged write of all rounds must be there."""
        return self.judge(open_export, names or self.exports, ordered_at=math.inf, returned_at=math.inf)

    def settle(self, open_export: Open) -> None:
        """Between rounds, after a judgement: what the disks hold is the truth from now on, older writes are forgotten.

        A long storm's journals stay small, and a write that was not there cannot come back unnoticed.
        """
        held = set()
        for disk, name in enumerate(self.exports):
            with open_export(name) as client:
                data = client.read(0, self._blocks * BLOCK)
            stamps = (read_stamp(data[at * BLOCK : (at + 1) * BLOCK], disk, at) for at in range(self._blocks))
            held |= {found for found in stamps if found is not None}
        for journal in self._journals:
            journal.writes = [write for write in journal.writes if (journal.writer, write.number) in held]
            for write in journal.writes:
                write.acknowledged = write.acknowledged or time.monotonic()

    def went_back_to(self, point: dict[int, int]) -> None:
        """The disks were restored to `point`: what came after it was undone by order."""
        for journal in self._journals:
            journal.writes = [write for write in journal.writes if write.number <= point[journal.writer]]
