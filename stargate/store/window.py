# SPDX-License-Identifier: Apache-2.0
"""The log bytes of a drain window, read in large pieces instead of block by block."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Sequence

from crc32c import crc32c

from stargate.checksum import block_crcs
from stargate.errors import DamagedData
from stargate.fs.disk import Buffer
from stargate.oplog.reader import LogReader
from stargate.units import BLOCK_BYTES, MiB

log = logging.getLogger(__name__)

PIECE_BYTES = 4 * MiB
SPAN_BYTES = 64 * MiB
"""Of address space. What is held of memory is the largest window so far."""


class WindowBytes:
    """`load` a range of the log, then take blocks out of it. The memory is used again by the next window, for touching
    fresh pages costs more than reading; what `blocks` gave is good until then."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._memory = memoryview(bytearray())
        self._start = 0

    def load(self, start: int, end: int) -> None:
        """Read [start, end), unchecked. Raises LogRangeGone."""
        if len(self._memory) < end - start:
            self.forget()  # before there is a larger one, for both would be held at once
            self._memory = memoryview(
                mmap.mmap(-1, max(end - start, SPAN_BYTES), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            )
        self._start = start
        segment = self._reader.info.segment_bytes
        at = start
        while at < end:
            stop = min(end, at + PIECE_BYTES, (at // segment + 1) * segment)
            self._fill(at, self._memory[at - start : stop - start])
            at = stop

    def _fill(self, position: int, target: memoryview) -> None:
        """What cannot be read becomes zeros: its blocks then fail their checksums, and the rest is found by halves."""
        try:
            self._reader.fill(position, target)
        except (DamagedData, OSError):
            if len(target) <= BLOCK_BYTES:
                target[:] = bytes(len(target))
                return
            half = len(target) // 2
            self._fill(position, target[:half])
            self._fill(position + half, target[half:])

    def forget(self) -> None:
        """Leave the memory to whoever still refers to it: after a failure the extent store writes the same bytes
        again."""
        self._memory = memoryview(bytearray())

    def blocks(self, position: int, crcs: tuple[int, ...]) -> Buffer:
        """Adjacent payload blocks of the loaded range, each checked. Raises LogRangeGone, LogDamaged."""
        at = position - self._start
        found = self._memory[at : at + len(crcs) * BLOCK_BYTES]
        if block_crcs(found) != crcs:
            return self._reader.read(position, len(crcs) * BLOCK_BYTES, crcs)  # tells what is wrong, or reads anew
        return found

    def scattered(self, places: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Single blocks of the loaded range, by (position, checksum). A rotten one is given as it is: kept under the
        checksum of the bytes that are lost, it is refused until somebody writes it anew. Raises LogRangeGone.
        """
        memory, start = self._memory, self._start
        found: list[Buffer] = [memory[at - start : at - start + BLOCK_BYTES] for at, _ in places]
        if list(map(crc32c, found)) != [crc for _, crc in places]:
            return [self._single(at, crc) for at, crc in places]
        return found

    def _single(self, position: int, crc: int) -> Buffer:
        try:
            return self.blocks(position, (crc,))
        except DamagedData as exc:
            log.error("drained as damage: %s", exc.message)
            return self._memory[position - self._start :][:BLOCK_BYTES]
