# SPDX-License-Identifier: Apache-2.0
"""One drain window: a durable range of the log becomes chunks and hot batches, published by one catalog commit.

Order (docs/design/0002): bytes durable -> index -> catalog frame `drained` (the commit point) -> the front swaps and
releases.
Only durable records are read, so a block is skipped for a later one only when that later one is durable too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from stargate.catalog.state import Op, State
from stargate.content import ZERO, EpochContent
from stargate.errors import DamagedData
from stargate.extents.store import ExtentStore
from stargate.fs.disk import Buffer
from stargate.hot.regions import HotWriter
from stargate.oplog.format import CONTROL, WRITE, LogBatch, LogMark
from stargate.oplog.format import ZERO as ZERO_RECORD
from stargate.oplog.reader import LogReader
from stargate.store.window import WindowBytes
from stargate.units import BLOCK_BYTES, MiB

WINDOW_BYTES = 64 * MiB
CONTROL_BYTES = 16 * MiB
"""Log ops of one window go into one catalog frame, which has a largest size."""

BATCH_BLOCKS = 1000
"""Blocks of one hot batch: with its head still one vectored write (the kernel takes 1024 buffers)."""

SHIFT = 32
CRC_MASK = 0xFFFFFFFF


@dataclass(slots=True)
class Window:
    """What a range of the log says, per epoch; values are `position << 32 | crc`."""

    mark: LogMark
    contents: dict[str, EpochContent] = field(default_factory=dict)
    log_ops: list[tuple[int, Op]] = field(default_factory=list)


def collect(
    state: State, start: LogMark, batches: Iterable[LogBatch], copying: AbstractContextManager[object] | None = None
) -> Window:
    """Apply the batches to scratch contents; stops after `WINDOW_BYTES` of log or `CONTROL_BYTES` of log ops.

    `copying` is entered while the state is copied, which others may change.
    """
    window = Window(start)
    control_bytes = 0
    scratch = state
    heads = {d.handle: d.head for d in scratch.vdisks.values()}
    for batch in batches:
        for record in batch.records:
            if record.type == CONTROL:
                control_bytes += record.length
                if scratch is state:
                    with copying or nullcontext():
                        scratch = copy.deepcopy(state)
                op = _op(record.payload)
                scratch.apply(op, position=batch.end)
                window.log_ops.append((batch.end, op))
                heads = {d.handle: d.head for d in scratch.vdisks.values()}
                continue
            head = heads.get(record.handle)
            if head is None:
                continue
            content = window.contents.get(head)
            if content is None:
                content = window.contents[head] = EpochContent(scratch.epochs[head].blocks_per_chunk)
            block = record.offset // BLOCK_BYTES
            if record.type == WRITE:
                for number, crc in enumerate(record.crcs):
                    content.write(block + number, (record.position + number * BLOCK_BYTES) << SHIFT | crc)
            elif record.type == ZERO_RECORD:
                content.zero(block, record.length // BLOCK_BYTES)
        window.mark = LogMark(batch.end, batch.seq, batch.crc)
        if batch.end - start.position >= WINDOW_BYTES or control_bytes >= CONTROL_BYTES:
            break
    needed = scratch.needed_epochs() if window.log_ops else None
    if needed is not None:
        window.contents = {epoch: c for epoch, c in window.contents.items() if epoch in needed}
    return window


def _op(payload: bytes | None) -> Op:
    try:
        op: Op = json.loads(payload or b"")
    except ValueError as exc:
        raise DamagedData("a control record of the log is not JSON") from exc
    return op


@dataclass(slots=True)
class Split:
    """An epoch's content of one window, ready to be written."""

    zeros: list[tuple[int, int]] = field(default_factory=list)
    chunks: list[tuple[int, list[int]]] = field(default_factory=list)  # whole chunks: index, values of its blocks
    blocks: list[tuple[int, int]] = field(default_factory=list)


def split(content: EpochContent) -> Split:
    """Whole chunks go straight to the extent store, the rest to the hot tier; explicit zeros become intervals."""
    result = Split(zeros=[(start, end - start) for start, end in content.zeros])
    for chunk, entries in _by_chunk(content):
        if len(entries) == content.blocks_per_chunk:
            result.chunks.append((chunk, [value for _, value in entries]))
            continue
        for block, value in entries:
            if value != ZERO:
                result.blocks.append((block, value))
            elif result.zeros and sum(result.zeros[-1]) == block:
                result.zeros[-1] = (result.zeros[-1][0], result.zeros[-1][1] + 1)
            else:
                result.zeros.append((block, 1))
    return result


def _by_chunk(content: EpochContent) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    chunk = -1
    entries: list[tuple[int, int]] = []
    for block, value in content.items():
        if block // content.blocks_per_chunk != chunk:
            if entries:
                yield chunk, entries
            chunk, entries = block // content.blocks_per_chunk, []
        entries.append((block, value))
    if entries:
        yield chunk, entries


class Drainer:
    """Writes windows. The caller holds an ingest hold on the extents and commits what `write` returns."""

    def __init__(self, reader: LogReader, extents: ExtentStore, hot: HotWriter) -> None:
        self._bytes = WindowBytes(reader)
        self._extents = extents
        self._hot = hot

    def write(self, window: Window, start: LogMark) -> list[Op]:
        """Make the window's bytes durable; returns the `batches` of its catalog op."""
        batches: list[Op] = []
        self._bytes.load(start.position, window.mark.position)
        for epoch, content in sorted(window.contents.items()):
            part = split(content)
            refs = [(chunk, self._extents.put_chunk(self._chunk(values))) for chunk, values in part.chunks]
            blocks = [(block, value >> SHIFT, value & CRC_MASK, self._block(value)) for block, value in part.blocks]
            for first in range(0, max(1, len(blocks)), BATCH_BLOCKS):
                some = blocks[first : first + BATCH_BLOCKS]
                for ref in self._hot.append(epoch, start.position, window.mark.position, part.zeros, refs, some):
                    batches.append({"epoch": epoch, "ref": list(ref)})
                part.zeros, refs = [], []  # these lie below all blocks: in the first batch
        self._extents.flush()
        self._hot.sync()
        return batches

    def _block(self, value: int) -> Buffer:
        return self._bytes.blocks(value >> SHIFT, (value & CRC_MASK,))

    def _chunk(self, values: list[int]) -> Buffer:
        """A whole chunk; adjacent log positions are taken at once."""
        parts: list[Buffer] = []
        at = 0
        while at < len(values):
            if values[at] == ZERO:
                parts.append(bytes(BLOCK_BYTES))
                at += 1
                continue
            run = at + 1
            while run < len(values) and values[run] >> SHIFT == (values[at] >> SHIFT) + (run - at) * BLOCK_BYTES:
                run += 1
            parts.append(self._bytes.blocks(values[at] >> SHIFT, tuple(v & CRC_MASK for v in values[at:run])))
            at = run
        return parts[0] if len(parts) == 1 else b"".join(parts)
