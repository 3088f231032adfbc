# SPDX-License-Identifier: Apache-2.0
"""What one epoch holds: `blocks` over `chunks` over `zeros` over the parent epoch. Pure.

The same class serves the front (values are places in the log or the hot tier), the drain (values are places in the
log),
and the fold (values are places in the hot tier). A value is an int chosen by the owner; `ZERO` (0) means a block of
zeros.

Zeroing a long range removes what it covers and remembers an interval, so that trimming a TiB costs what was written
there,
not the size of the range. Blocks are kept in small shards: a growing dict stalls for milliseconds, a small one does
not.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

ZERO = 0
"""Value of a block that was zeroed explicitly."""

SHARD_BITS = 12
"""4,096 blocks (16 MiB of guest data) per shard."""

ZERO_RUN_EXPLICIT_MAX = 64
"""Zeroings up to this many blocks become explicit ZERO blocks; longer ones become an interval."""


class IntervalSet:
    """Disjoint, sorted, half-open intervals of block numbers; touching ones are merged."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __contains__(self, block: int) -> bool:
        at = bisect_right(self._starts, block) - 1
        return at >= 0 and block < self._ends[at]

    def add(self, start: int, end: int) -> None:
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def end_of_run(self, block: int) -> int:
        """End of the interval that holds `block`; `block` itself when none does."""
        at = bisect_right(self._starts, block) - 1
        return self._ends[at] if at >= 0 and block < self._ends[at] else block

    def next_start(self, block: int) -> int | None:
        """Start of the first interval that begins after `block`."""
        at = bisect_right(self._starts, block)
        return self._starts[at] if at < len(self._starts) else None


class EpochContent:
    """Content of one epoch; see the module. `blocks_per_chunk` is a property of the vDisk's lineage."""

    __slots__ = ("blocks_per_chunk", "chunks", "shards", "zeros")

    def __init__(self, blocks_per_chunk: int) -> None:
        self.blocks_per_chunk = blocks_per_chunk
        self.shards: dict[int, dict[int, int]] = {}
        self.chunks: dict[int, bytes] = {}
        self.zeros = IntervalSet()

    def __bool__(self) -> bool:
        return bool(self.shards) or bool(self.chunks) or bool(self.zeros)

    def write(self, block: int, value: int) -> None:
        shard = self.shards.get(block >> SHARD_BITS)
        if shard is None:
            shard = self.shards[block >> SHARD_BITS] = {}
        shard[block] = value

    def write_run(self, block: int, values: Iterable[int]) -> None:
        values = iter(values)
        while True:
            count = (1 << SHARD_BITS) - (block & ((1 << SHARD_BITS) - 1))
            found = dict(zip(range(block, block + count), values))  # noqa: B905 - the shard's end or the values'
            if not found:
                return
            self.shards.setdefault(block >> SHARD_BITS, {}).update(found)
            block += count

    def write_sorted(self, blocks: Sequence[int], values: Sequence[int]) -> None:
        """Many single blocks at once; `blocks` ascend."""
        at = 0
        while at < len(blocks):
            key = blocks[at] >> SHARD_BITS
            end = bisect_left(blocks, (key + 1) << SHARD_BITS, at)
            shard = self.shards.setdefault(key, {})
            shard.update(zip(blocks[at:end], values[at:end], strict=True))
            at = end

    def zero(self, block: int, count: int) -> None:
        """Zero `count` blocks from `block`: what was there is forgotten."""
        if count <= ZERO_RUN_EXPLICIT_MAX:
            for number in range(block, block + count):
                self.write(number, ZERO)
            return
        end = block + count
        self._drop_blocks(block, end)
        self._drop_chunks(block, end)
        self.zeros.add(block, end)

    def set_chunk(self, chunk: int, digest: bytes) -> None:
        """The whole chunk is `digest` now; its single blocks are forgotten."""
        first = chunk * self.blocks_per_chunk
        shard = self.shards.get(first >> SHARD_BITS)
        if shard:
            for number in range(first, first + self.blocks_per_chunk):
                shard.pop(number, None)
            if not shard:
                del self.shards[first >> SHARD_BITS]
        self.chunks[chunk] = digest

    def get(self, block: int) -> int | None:
        """The block's own value; None when a chunk, an interval or the parent decides."""
        shard = self.shards.get(block >> SHARD_BITS)
        return None if shard is None else shard.get(block)

    def of_chunk(self, chunk: int) -> list[tuple[int, int]]:
        """(block, value) of the chunk's own blocks, in order; no chunk spans two shards."""
        first = chunk * self.blocks_per_chunk
        shard = self.shards.get(first >> SHARD_BITS)
        if not shard:
            return []
        return [(block, shard[block]) for block in range(first, first + self.blocks_per_chunk) if block in shard]

    def items(self) -> Iterator[tuple[int, int]]:
        """(block, value) in order of block."""
        for key in sorted(self.shards):
            yield from sorted(self.shards[key].items())

    def apply_batch(
        self, zeros: Iterable[tuple[int, int]], chunks: Iterable[tuple[int, bytes]], blocks: Iterable[tuple[int, int]]
    ) -> None:
        """Lay a later batch over this content, in its fixed order: zeros (start, count), chunk refs, blocks."""
        for start, count in zeros:
            self.zero(start, count)
        for chunk, digest in chunks:
            self.set_chunk(chunk, digest)
        for block, value in blocks:
            self.write(block, value)

    def _drop_blocks(self, start: int, end: int) -> None:
        first, last = start >> SHARD_BITS, (end - 1) >> SHARD_BITS
        keys = (
            [k for k in self.shards if first <= k <= last]
            if last - first >= len(self.shards)
            else range(first, last + 1)
        )
        for key in keys:
            shard = self.shards.get(key)
            if shard is None:
                continue
            if start <= key << SHARD_BITS and (key + 1) << SHARD_BITS <= end:
                del self.shards[key]
                continue
            for number in [n for n in shard if start <= n < end]:
                del shard[number]
            if not shard:
                del self.shards[key]

    def _drop_chunks(self, start: int, end: int) -> None:
        if not self.chunks:
            return
        per = self.blocks_per_chunk
        for chunk in chunks_touching(self.chunks, start // per, (end - 1) // per):
            first = chunk * per
            if start <= first and first + per <= end:
                del self.chunks[chunk]
                continue
            for number in range(max(first, start), min(first + per, end)):
                self.write(number, ZERO)


def chunks_touching(chunks: Mapping[int, bytes], first: int, last: int) -> list[int]:
    """Chunk indexes of `chunks` in [first, last], by whichever way is shorter."""
    if last - first + 1 < len(chunks):
        return [c for c in range(first, last + 1) if c in chunks]
    return [c for c in chunks if first <= c <= last]
