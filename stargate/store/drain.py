# SPDX-License-Identifier: Apache-2.0
"""One drain window: a durable range of the log becomes chunks and hot batches, published by one catalog commit.

Order (docs/design/0002): bytes durable -> index -> catalog frame `drained` (the commit point) -> the front swaps and
releases.
Only durable records are read, so a block is skipped for a later one only when that later one is durable too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from operator import add

from crc32c import crc32c

from stargate.catalog import marks
from stargate.catalog.state import Op, State
from stargate.content import ZERO, EpochContent
from stargate.errors import DamagedData
from stargate.extents.store import ExtentStore
from stargate.hot.format import Block
from stargate.hot.regions import HotWriter
from stargate.oplog.format import CONTROL, WRITE, LogBatch, LogMark, LogRecord
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
PLACE_STEP = BLOCK_BYTES << SHIFT

_ZERO_BLOCK = bytes(BLOCK_BYTES)
_ZERO_CRC = crc32c(_ZERO_BLOCK)


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
                op = _op(record.payload)
                window.log_ops.append((batch.end, op))
                if op.get("op") in marks.OPS:
                    continue  # not worth a copy of the state
                if scratch is state:
                    with copying or nullcontext():
                        scratch = copy.deepcopy(state)
                scratch.apply(op, position=batch.end)
                heads = {d.handle: d.head for d in scratch.vdisks.values()}
                continue
            head = heads.get(record.handle)
            if head is None:
                continue
            content = window.contents.get(head)
            if content is None:
                content = window.contents[head] = EpochContent(scratch.epochs[head].blocks_per_chunk)
            _apply(content, record)
        window.mark = LogMark(batch.end, batch.seq, batch.crc)
        if batch.end - start.position >= WINDOW_BYTES or control_bytes >= CONTROL_BYTES:
            break
    needed = scratch.needed_epochs() if window.log_ops else None
    if needed is not None:
        window.contents = {epoch: c for epoch, c in window.contents.items() if epoch in needed}
    return window


def _apply(content: EpochContent, record: LogRecord) -> None:
    block = record.offset // BLOCK_BYTES
    if record.type == WRITE:
        if len(record.crcs) == 1:
            content.write(block, record.position << SHIFT | record.crcs[0])
            return
        first = record.position << SHIFT
        places = range(first, first + len(record.crcs) * PLACE_STEP, PLACE_STEP)
        content.write_run(block, map(add, places, record.crcs))
    elif record.type == ZERO_RECORD:
        content.zero(block, record.length // BLOCK_BYTES)


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
    per = content.blocks_per_chunk
    for key in sorted(content.shards):
        shard = content.shards[key]
        blocks = sorted(shard)
        values = [shard[block] for block in blocks]
        at, count = 0, len(blocks)
        while at < count:
            block, value = blocks[at], values[at]
            end = at + per
            if not block % per and end <= count and blocks[end - 1] == block + per - 1:
                result.chunks.append((block // per, values[at:end]))
                at = end
                continue
            at += 1
            if value != ZERO:
                result.blocks.append((block, value))
            elif result.zeros and sum(result.zeros[-1]) == block:
                result.zeros[-1] = (result.zeros[-1][0], result.zeros[-1][1] + 1)
            else:
                result.zeros.append((block, 1))
    return result


class Drainer:
    """Writes windows. The caller holds an ingest hold on the extents and commits what `write` returns."""

    def __init__(self, reader: LogReader, extents: ExtentStore, hot: HotWriter) -> None:
        self._bytes = WindowBytes(reader)
        self._extents = extents
        self._hot = hot
        self.refs = 0
        """Whole chunks of the last window."""

    def write(self, window: Window, start: LogMark) -> list[Op]:
        """Make the window's bytes durable; returns the `batches` of its catalog op."""
        try:
            return self._write(window, start)
        except BaseException:
            self._bytes.forget()
            raise

    def _write(self, window: Window, start: LogMark) -> list[Op]:
        batches: list[Op] = []
        self.refs = 0
        self._hot.begin()
        self._bytes.load(start.position, window.mark.position)
        for epoch, content in sorted(window.contents.items()):
            part = split(content)
            refs = self._refs(part, content.blocks_per_chunk)
            self.refs += len(refs)
            for first in range(0, max(1, len(part.blocks)), BATCH_BLOCKS):
                some = self._blocks(part.blocks[first : first + BATCH_BLOCKS])
                for ref in self._hot.append(epoch, start.position, window.mark.position, part.zeros, refs, some):
                    batches.append({"epoch": epoch, "ref": list(ref)})
                part.zeros, refs = [], []  # these lie below all blocks: in the first batch
        self._extents.flush()
        self._hot.sync()
        return batches

    def _refs(self, part: Split, per_chunk: int) -> list[tuple[int, bytes]]:
        """The whole chunks stored. One with rotten blocks is none: its blocks go to the hot tier one by one."""
        refs: list[tuple[int, bytes]] = []
        for chunk, values in part.chunks:
            try:
                refs.append((chunk, self._put(values)))
            except DamagedData:
                entries = list(enumerate(values, chunk * per_chunk))
                part.blocks += [(block, value) for block, value in entries if value != ZERO]
                part.zeros += [(block, 1) for block, value in entries if value == ZERO]
        return refs

    def _blocks(self, entries: list[tuple[int, int]]) -> list[Block]:
        places = [(value >> SHIFT, value & CRC_MASK) for _, value in entries]
        found = self._bytes.scattered(places)
        return [
            (block, position, crc, data)
            for (block, _), (position, crc), data in zip(entries, places, found, strict=True)
        ]

    def _put(self, values: list[int]) -> bytes:
        """A whole chunk into the extent store; its hash. Most were written at once and lie together in the log."""
        position, crcs = values[0] >> SHIFT, [value & CRC_MASK for value in values]
        together = list(range(position, position + len(values) * BLOCK_BYTES, BLOCK_BYTES))
        if ZERO not in values and [value >> SHIFT for value in values] == together:
            return self._extents.put_warm(self._bytes.blocks(position, tuple(crcs)), crcs)
        parts = [_ZERO_BLOCK if v == ZERO else self._bytes.blocks(v >> SHIFT, (v & CRC_MASK,)) for v in values]
        crcs = [_ZERO_CRC if value == ZERO else value & CRC_MASK for value in values]
        return self._extents.put_warm(b"".join(parts), crcs)
