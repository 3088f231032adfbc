# SPDX-License-Identifier: Apache-2.0
"""The log bytes of a drain window, read in large pieces instead of block by block."""

from __future__ import annotations

from crc32c import crc32c

from stargate.fs.disk import Buffer
from stargate.oplog.reader import LogReader
from stargate.units import BLOCK_BYTES, MiB

PIECE_BYTES = 4 * MiB


class WindowBytes:
    """`load` a range of the log, then take blocks out of it. The memory is used again by the next window, for touching
    fresh pages costs more than reading; what `blocks` gave is good until then."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._memory = memoryview(bytearray())
        self._start = 0

    def load(self, start: int, end: int) -> None:
        """Read [start, end), unchecked. Raises LogRangeGone, LogDamaged."""
        if len(self._memory) < end - start:
            self._memory = memoryview(bytearray(end - start))
        self._start = start
        segment = self._reader.info.segment_bytes
        at = start
        while at < end:
            stop = min(end, at + PIECE_BYTES, (at // segment + 1) * segment)
            self._reader.fill(at, self._memory[at - start : stop - start])
            at = stop

    def blocks(self, position: int, crcs: tuple[int, ...]) -> Buffer:
        """Adjacent payload blocks of the loaded range, each checked. Raises LogRangeGone, LogDamaged."""
        at = position - self._start
        found = self._memory[at : at + len(crcs) * BLOCK_BYTES]
        for number, crc in enumerate(crcs):
            if crc32c(found[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]) != crc:
                return self._reader.read(position, len(crcs) * BLOCK_BYTES, crcs)  # tells what is wrong, or reads anew
        return found
