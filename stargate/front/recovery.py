# SPDX-License-Identifier: Apache-2.0
"""Start of the front: catalog, then the hot batches of epochs without a root, then the undrained log on top."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping

from stargate.catalog.log import read_catalog
from stargate.catalog.state import BatchRef, State, VDisk
from stargate.errors import DamagedData, LogDamaged
from stargate.front.engine import FrontEngine, RangeReader
from stargate.front.layers import HOT_BIT, POSITION_SHIFT, Layers
from stargate.front.ops import op_of
from stargate.fs.disk import Disk
from stargate.hot.format import HotTable
from stargate.oplog.damage import LOG_MADE, DamagedLog
from stargate.oplog.format import CONTROL, WRITE, ZERO, LogBatch, LogMark, damaged, first_mark
from stargate.oplog.log import OpLog
from stargate.oplog.reader import LogReader
from stargate.oplog.skim import Run, by_disk
from stargate.oplog.superblock import load_superblock
from stargate.units import BLOCK_BYTES

log = logging.getLogger(__name__)

NEXT_LOG = "oplog-next"
"""Where `accept-loss` makes a new log before it takes the place of the damaged one."""


def load_state(disk: Disk) -> State:
    """The catalog as the store last committed it; an empty one before the first commit."""
    checkpoint, ops = read_catalog(disk, "catalog")
    state = State.from_dict(checkpoint) if checkpoint is not None else State()
    for op in ops:
        state.apply(op)
    return state


def open_log(disk: Disk, state: State, *, segment_bytes: int, cap_bytes: int) -> OpLog:
    """The log of this catalog, created at the very first start; one that lost a part below a durable position is a
    `DamagedLog`. Raises DamagedData for a log of another catalog, or while an order of `accept-loss` is half done.
    """
    if disk.exists(f"{NEXT_LOG}/superblock"):
        raise DamagedData("`python -m stargate accept-loss` was cut off in its work; order it again")
    try:
        return _open_whole(disk, state, segment_bytes, cap_bytes)
    except LogDamaged as exc:
        log.critical("%s", exc.message)
        log_id = bytes.fromhex(state.log_id) if state.log_id else bytes(16)
        covered = LogMark(*state.covered) if state.covered.position else None
        return DamagedLog.open_damaged(disk, "oplog", log_id=log_id, covered=covered, damage=exc)


def _open_whole(disk: Disk, state: State, segment_bytes: int, cap_bytes: int) -> OpLog:
    """Raises LogDamaged, DamagedData."""
    if not OpLog.exists(disk, "oplog"):
        if state.log_id or disk.exists(LOG_MADE):
            raise damaged(state.covered.position, "the log is gone; it was under oplog/")
        OpLog.create(disk, "oplog", log_id=uuid.uuid4().bytes, segment_bytes=segment_bytes, cap_bytes=cap_bytes).close()
    disk.open(LOG_MADE, create=True).close()
    disk.sync_dir("")
    log_id = load_superblock(disk, "oplog")[0].log_id
    if state.log_id and state.log_id != log_id.hex():
        raise DamagedData("log and catalog belong to different data folders; do not mix copies")
    covered = LogMark(*state.covered) if state.covered.position else first_mark(log_id)
    return OpLog.open(disk, "oplog", covered=covered)


def log_reader(disk: Disk, oplog: OpLog) -> RangeReader:
    """What reads the log's payloads."""
    return oplog if isinstance(oplog, DamagedLog) else LogReader(disk, "oplog")


def load_contents(state: State, layers: Layers, read_table: Callable[[BatchRef], HotTable]) -> None:
    """Lay the catalogued hot batches into the contents of epochs that have no root."""
    for epoch in state.epochs.values():
        if epoch.root is not None:
            continue
        layer = layers.get(epoch.epoch)
        for ref in epoch.batches:
            try:
                table = read_table(ref)
            except DamagedData as exc:
                log.error("epoch %s: %s; its blocks are refused until they are written anew", epoch.epoch, exc.message)
                layer.lose()
                continue
            values = (
                (block, position << POSITION_SHIFT | HOT_BIT | crc)
                for block, position, crc in zip(
                    table.blocks.tolist(), table.positions.tolist(), table.crcs.tolist(), strict=True
                )
            )
            layer.content.apply_batch(table.zeros, table.chunks, values)


def replay(engine: FrontEngine, batches: Iterable[LogBatch | Run]) -> None:
    """Apply the recovered, undrained part of the log in its order."""
    for batch in batches:
        by_handle = engine.state.by_handle()
        if isinstance(batch, Run):
            _replay_run(engine, batch, by_handle)
            continue
        for record in batch.records:
            if record.type == CONTROL:
                engine.apply_log_op(op_of(record.payload or b"{}"), batch.end)
                by_handle = engine.state.by_handle()
                continue
            disk = by_handle.get(record.handle)
            if disk is None:
                continue  # written before the vDisk's deletion, which is in the catalog already
            content = engine.layers.get(disk.head).content
            block = record.offset // BLOCK_BYTES
            if record.type == ZERO:
                content.zero(block, record.length // BLOCK_BYTES)
            elif record.type == WRITE:
                for number, crc in enumerate(record.crcs):
                    content.write(block + number, (record.position + number * BLOCK_BYTES) << POSITION_SHIFT | crc)


def _replay_run(engine: FrontEngine, run: Run, disks: Mapping[int, VDisk]) -> None:
    for handle, blocks, positions, crcs in by_disk(run):
        disk = disks.get(handle)
        if disk is not None:
            values = [position << POSITION_SHIFT | crc for position, crc in zip(positions, crcs, strict=True)]
            engine.layers.get(disk.head).content.write_sorted(blocks, values)
