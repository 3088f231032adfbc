# SPDX-License-Identifier: Apache-2.0
"""Fold a sealed epoch: its content over its parent's tree becomes a tree of its own.

Only sealed epochs are folded, oldest first, never on the guests' path. Chunks and nodes are durable and indexed before
the caller
commits `rooted`; a crash before that leaves chunks without an owner, which the next fold finds again or the sweep
takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from stargate.catalog.state import BatchRef, Epoch, State
from stargate.checksum import block_crcs
from stargate.content import ZERO, EpochContent
from stargate.extents.format import ZERO_HASH
from stargate.extents.store import ExtentStore
from stargate.extents.tree import TreeFormat, TreeReader, empty_root, update
from stargate.fs.disk import Buffer
from stargate.hot.format import HotTable
from stargate.hot.regions import HotReader
from stargate.units import BLOCK_BYTES

SHIFT = 32
CRC_MASK = 0xFFFFFFFF
CHUNKS_PER_STEP = 64


def content_of(chain: Sequence[Epoch], read_table: Callable[[BatchRef], HotTable]) -> EpochContent:
    """The drained content of epochs laid over each other, oldest first; values are `hot position << 32 | crc`."""
    content = EpochContent(chain[-1].blocks_per_chunk)
    for ref in [ref for epoch in chain for ref in epoch.batches]:
        table = read_table(ref)
        values = (
            (block, position << SHIFT | crc)
            for block, position, crc in zip(
                table.blocks.tolist(), table.positions.tolist(), table.crcs.tolist(), strict=True
            )
        )
        content.apply_batch(table.zeros, table.chunks, values)
    return content


def next_chain(state: State, poisoned: Collection[str]) -> list[Epoch] | None:
    """An epoch to be folded, behind the poisoned ones that it stands on: what it says itself may hide the damage."""
    for name in sorted(state.needed_epochs() - set(poisoned)):
        chain = [state.epochs[name]]
        if not chain[0].sealed or chain[0].root is not None:
            continue
        while (below := state.epochs.get(chain[-1].parent or "")) is not None and below.epoch in poisoned:
            chain.append(below)
        if below is None or below.root is not None:
            return chain[::-1]
    return None


class Folder:
    """Folds one epoch at a time; `pause` is called between steps so that more urgent work gets its turn."""

    def __init__(self, extents: ExtentStore, hot: HotReader, pause: Callable[[], None]) -> None:
        self._extents = extents
        self._hot = hot
        self._pause = pause

    def fold(self, epoch: Epoch, content: EpochContent, parent_root: bytes | None) -> bytes:
        """The new root, durable. `parent_root` None: zeros below."""
        fmt = TreeFormat(epoch.size_bytes, epoch.chunk_bytes)
        base = parent_root if parent_root is not None else empty_root(self._extents, fmt)
        if (
            not content
            and parent_root is not None
            and TreeReader(self._extents, base).format.size_bytes == fmt.size_bytes
        ):
            return base
        whole, touched = _plan(content, fmt)
        changes: list[tuple[int, bytes]] = []
        reader = TreeReader(self._extents, base)
        for start in range(0, len(touched), CHUNKS_PER_STEP):
            step = touched[start : start + CHUNKS_PER_STEP]
            changes += [(chunk, self._digest(chunk, content, reader)) for chunk in step]
            self._pause()
        root = update(self._extents, base, changes, whole, size_bytes=fmt.size_bytes)
        self._extents.flush()
        return root

    def _digest(self, chunk: int, content: EpochContent, base: TreeReader) -> bytes:
        per = content.blocks_per_chunk
        entries = content.of_chunk(chunk)
        ref = content.chunks.get(chunk)
        if ref is not None and not entries:
            return ref
        if len(entries) == per:
            return self._put(b"".join(data for _, data in self._runs(entries)))
        whole = bytearray(self._below(chunk, content, base))
        for block, data in self._runs(entries):
            at = (block - chunk * per) * BLOCK_BYTES
            whole[at : at + len(data)] = data
        return self._put(whole)

    def _put(self, data: Buffer) -> bytes:
        """Raw, as what the drain stores: the guests that wrote it read it."""
        return self._extents.put_warm(data, block_crcs(data))

    def _below(self, chunk: int, content: EpochContent, base: TreeReader) -> bytes:
        """What lies under the chunk's single blocks: a chunk ref, or the parent's chunk less the zeroed intervals."""
        size = content.blocks_per_chunk * BLOCK_BYTES
        ref = content.chunks.get(chunk)
        if ref is not None:
            return bytes(size) if ref == ZERO_HASH else self._extents.read_chunk(ref)
        inside = chunk * size < base.format.size_bytes
        digest = base.chunk(chunk) if inside else ZERO_HASH
        data = bytearray(size) if digest == ZERO_HASH else bytearray(self._extents.read_chunk(digest))
        first = chunk * content.blocks_per_chunk
        for number in range(content.blocks_per_chunk):
            if first + number in content.zeros:
                data[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES] = bytes(BLOCK_BYTES)
        return bytes(data)

    def _runs(self, entries: list[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
        """(first block, bytes): blocks that lie next to each other in the hot tier are read at once."""
        at = 0
        while at < len(entries):
            block, value = entries[at]
            end = at + 1
            if value == ZERO:
                yield block, bytes(BLOCK_BYTES)
            else:
                start = value >> SHIFT
                while end < len(entries) and (
                    entries[end][0] - block == end - at and entries[end][1] >> SHIFT == start + (end - at) * BLOCK_BYTES
                ):
                    end += 1
                crcs = tuple(value & CRC_MASK for _, value in entries[at:end])
                yield block, self._hot.read(start, len(crcs) * BLOCK_BYTES, crcs)
            at = end


def _plan(content: EpochContent, fmt: TreeFormat) -> tuple[list[tuple[int, int]], list[int]]:
    """(whole zeroed chunk ranges, chunks to assemble), inside the disk's size."""
    per = content.blocks_per_chunk
    touched = {block // per for block, _ in content.items()} | set(content.chunks)
    whole: list[tuple[int, int]] = []
    for start, end in content.zeros:
        first, last = -(-start // per), end // per
        if first < last:
            whole.append((first, last - first))
        touched.update(c for c in (start // per, (end - 1) // per) if not first <= c < last)
    inside = fmt.chunk_count
    whole = [(first, min(count, inside - first)) for first, count in whole if first < inside]
    return whole, sorted(c for c in touched if c < inside)
