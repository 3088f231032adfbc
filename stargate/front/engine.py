# SPDX-License-Identifier: Apache-2.0
"""`FrontEngine`: the write path (stage, one append, place in the maps), the read path, the sync thread and the pacing.

Everything here runs in the NBD loop's thread except `SyncThread`. The order of a batch: records are staged by the
exports, appended
with one vectored write, and only then entered in the maps; a refused append leaves the maps as they were.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from stargate.catalog.state import Op, State
from stargate.clock import Clock, SystemClock
from stargate.content import ZERO as NO_PLACE
from stargate.content import EpochContent
from stargate.errors import LogFull, NoSpace, StargateError
from stargate.eventfd import EventFd
from stargate.extents.format import DamagedExtent
from stargate.front.damage import Damage
from stargate.front.departures import Departures
from stargate.front.layers import (
    CRC_MASK,
    HOT_BIT,
    POSITION_SHIFT,
    ZERO_HASH,
    Kind,
    Layer,
    Layers,
    Piece,
    look_up,
    lost_blocks,
    place_run,
    plan,
    walk,
    whole_chunks,
)
from stargate.front.syncing import SyncThread
from stargate.fs.disk import Buffer
from stargate.nbd.exports import HOLD, CommitLater
from stargate.oplog.damage import DamagedLog
from stargate.oplog.format import WRITE, ZERO, Append, Appended
from stargate.oplog.log import OpLog, SegmentFull
from stargate.space import Gauge, Level
from stargate.units import BLOCK_BYTES, KiB, MiB

log = logging.getLogger(__name__)

_new_tuple = tuple.__new__

ZEROS = bytes(1 * MiB)
_ZERO_BLOCK = bytes(BLOCK_BYTES)
_SETTLED = (Kind.CHUNK, Kind.ZEROS)
"""Pieces of a read that no write and no drain can move."""

STEADY_SYNC_BYTES = 8 * MiB
SEAL_AHEAD = 4 * MiB
SEAL_SYNC_BYTES = 256 * KiB
"""So near its end a segment is synced in steps of this, for writers wait for the last sync."""

PACE_FROM = 0.70
PACE_STOP = 0.95
"""Fill of the log where guests begin to be slowed, and where writers wait until the drain made room (the rest is for
orders)."""

BUSY_FROM = 0.4
"""Above this fill the drain works without pause (it begins at a third)."""

CONTROL_RESERVE_BYTES = 4 * MiB

SLOT_RETRY_SECONDS = 0.5
"""How long a log that could not grow is not asked again: a try writes a part of a segment."""

DAMAGE_REPEAT_SECONDS = 60.0
DAMAGE_REPORTS_MAX = 10_000


class RangeReader(Protocol):
    """Verified reads by position: the log and the hot tier alike."""

    def read(self, position: int, length: int, crcs: Sequence[int]) -> bytes: ...


class ChunkReader(Protocol):
    """Verified reads of stored chunks."""

    def read_blocks(self, digest: bytes, first_block: int, count: int) -> bytes: ...


class Pacer:
    """A token bucket over all writers: above `PACE_FROM` they get the drain's measured rate, tapering as the log fills
    (L6): four times that at first, the same half-way, a quarter at `PACE_STOP`."""

    def __init__(self, oplog: OpLog, clock: Clock) -> None:
        self._log = oplog
        self._clock = clock
        self._free_at = 0.0
        self._last_release: tuple[float, int] | None = None
        self.drain_bytes_per_second = 64.0 * MiB
        self.refuses: Callable[[], bool] = lambda: False
        """Whether writers are refused instead of held when the log is full: the storage is."""

    def released(self, total_bytes: int) -> None:
        """The drain released the log below this position: update its measured rate (smoothed). Only the time between
        two releases that left it enough to go on says how fast it is; else it waited for guests, or for its start.
        """
        now = self._clock.monotonic()
        last = self._last_release
        self._last_release = (now, total_bytes) if self._fill() >= BUSY_FROM else None
        if last is not None and now > last[0] and total_bytes > last[1]:
            rate = (total_bytes - last[1]) / (now - last[0])
            self.drain_bytes_per_second = max(1.0 * MiB, 0.7 * self.drain_bytes_per_second + 0.3 * rate)

    def _fill(self) -> float:
        return self._log.used_bytes / self._log.cap_bytes

    def wrote(self, written_bytes: int) -> None:
        fill = self._fill()
        if fill <= PACE_FROM:
            self._free_at = 0.0
            return
        part = min(1.0, (fill - PACE_FROM) / (PACE_STOP - PACE_FROM))
        rate = 4.0 * 16.0**-part * self.drain_bytes_per_second
        now = self._clock.monotonic()
        self._free_at = max(self._free_at, now) + written_bytes / rate

    def delay(self) -> float:
        """Seconds for which writers should not be read from; HOLD: until the drain made room."""
        if self._log.used_bytes >= PACE_STOP * self._log.cap_bytes:
            return 0.0 if self.refuses() else HOLD
        return max(0.0, self._free_at - self._clock.monotonic()) if self._free_at else 0.0


class FrontEngine:
    """The log and the maps. One instance per site, owned by the NBD loop's thread."""

    def __init__(
        self,
        oplog: OpLog,
        state: State,
        layers: Layers,
        *,
        log_reader: RangeReader,
        hot_reader: RangeReader,
        chunks: ChunkReader,
        clock: Clock | None = None,
    ) -> None:
        self.log = oplog
        self.state = state
        self.layers = layers
        self.clock = clock or SystemClock()
        self._wake = EventFd(waits=False)
        self.sync = SyncThread(oplog, self._wake)
        self.pacer = Pacer(oplog, self.clock)
        self.last_write_at: dict[str, float] = {}
        self.damage: Damage | None = None
        """The log lost a part: everything is read-only."""
        if isinstance(oplog, DamagedLog):
            self.damage = Damage(oplog.appended.position, oplog.damage.message, heads_lost=True)
        self.on_damage: Callable[[bytes], None] = lambda digest: None
        """Told the names of damaged chunks and nodes that reads met."""
        self._reported: dict[bytes, float] = {}
        self.departures = Departures()
        self.gauge: Gauge | None = None
        """How full the file system is; None: nobody looks."""
        self.pacer.refuses = self._is_full
        self._no_slot_until = 0.0
        self._log_reader, self._hot_reader = log_reader, hot_reader
        self._chunks = chunks
        self._appends: list[Append] = []
        self._contents: list[EpochContent] = []
        self._unplaced: tuple[list[EpochContent], list[Append], list[Appended], int] | None = None
        """Of the last append, until it is in the maps: contents, records, places, bytes of the log used before."""
        self._batch_error: StargateError | None = None
        self._reserve_bytes = min(CONTROL_RESERVE_BYTES, oplog.cap_bytes // 32)
        self._tail_bytes = min(CONTROL_RESERVE_BYTES, oplog.info.segment_bytes // 8)

    @property
    def wake_fd(self) -> int:
        """An eventfd, readable when more is durable or the log can go on. It lives as long as the engine."""
        return self._wake.fd

    # -- writing ------------------------------------------------------------------------------------------------------

    def stage_write(self, handle: int, layer: Layer, offset: int, data: Buffer) -> None:
        """Whole blocks only; `offset` in bytes. `data` must stay unchanged until `commit`."""
        self._appends.append(_new_tuple(Append, (WRITE, handle, offset, data, len(data))))
        self._contents.append(layer.content)

    def stage_zero(self, handle: int, layer: Layer, block: int, count: int) -> None:
        self._appends.append(Append(ZERO, handle, block * BLOCK_BYTES, None, count * BLOCK_BYTES))
        self._contents.append(layer.content)

    def flush_stage(self) -> None:
        """Append early, inside a batch (read-modify-write needs it). A failure also fails the batch's own `commit`:
        it took other requests' staged writes with it, and those must not be acknowledged."""
        try:
            self.commit()
        except StargateError as exc:
            self._batch_error = exc
            raise

    def commit(self, *, wait: bool = True) -> int:
        """Append what is staged and enter it in the maps; returns the position that a flush must wait for. On an error
        nothing staged is kept.

        Without `wait` it raises CommitLater, everything staged kept, while the log begins a new segment; `wake_fd`
        tells when to try again.
        """
        position = self.append_staged(wait=wait)
        self.place()
        return position

    def append_staged(self, *, wait: bool = True) -> int:
        """The first half of `commit`: what it appended can be answered. `place` has to follow before anything else is
        done."""
        if self._unplaced is not None:  # nothing is forgotten, should a batch have ended in an error between the halves
            self.place()
        if self._batch_error is not None:
            error, self._batch_error = self._batch_error, None
            self._appends, self._contents = [], []
            raise error
        oplog = self.log
        if self._appends:
            appends, contents = self._appends, self._contents
            self._appends, self._contents = [], []
            used_bytes = oplog.used_bytes
            if used_bytes > oplog.cap_bytes >> 1:
                self._check_room(appends)
            try:
                if oplog.segment_left < self._tail_bytes and not oplog.next_ready:
                    self._next_segment(wait)
                places = oplog.append(appends, wait=wait)
            except SegmentFull:
                # the buffers they came in are used again meanwhile
                self._appends = [_own(item) for item in appends]
                self._contents = contents
                self.sync.ask()
                raise CommitLater from None
            self._unplaced = contents, appends, places, used_bytes
        return oplog.appended.position

    def place(self) -> None:
        """Enter what was appended last in the maps."""
        if self._unplaced is None:
            return
        oplog = self.log
        (contents, appends, places, used_bytes), self._unplaced = self._unplaced, None
        _place(contents, appends, places)
        self.pacer.wrote(oplog.used_bytes - used_bytes)
        step = STEADY_SYNC_BYTES if oplog.segment_left >= SEAL_AHEAD else SEAL_SYNC_BYTES
        if oplog.appended.position - oplog.durable.position >= step:
            self.sync.ask()

    def _check_room(self, appends: Sequence[Append]) -> None:
        """Guests never take what is kept for orders. Raises LogFull."""
        if self.log.used_bytes >= PACE_STOP * self.log.cap_bytes and self._is_full():
            raise NoSpace("the storage is full and the log too: nothing is stored until there is space")
        wanted = self.log.used_bytes + sum(a.length for a in appends if a.data)
        if wanted + self._reserve_bytes > self.log.cap_bytes:
            raise LogFull("the log is full: the drain does not keep up or the store process is not running")

    def _is_full(self) -> bool:
        return self.gauge is not None and self.gauge.level() is Level.FULL

    def _next_segment(self, wait: bool) -> None:
        """The end of a segment is kept for orders until the next one is ready. Raises NoSpace; SegmentFull instead of
        waiting for it."""
        now = self.clock.monotonic()
        if now < self._no_slot_until:
            raise NoSpace("the disk is full: the log cannot grow; free space on the site's data folder")
        try:
            if wait:
                self.log.prepare()
            else:
                self.sync.preparer.check()
        except NoSpace:
            self._no_slot_until = now + SLOT_RETRY_SECONDS
            raise

    def append_ops(self, ops: Sequence[Op]) -> int:
        """Log ops as CONTROL records in one batch, then applied to the state; returns the position to wait for."""
        from stargate.front.ops import control_record  # the encoding lives with the op builders

        self.flush_stage()
        if self.damage is not None:
            raise self.damage.error()
        self.log.append([control_record(op) for op in ops])
        position = self.log.appended.position
        for op in ops:
            self.apply_log_op(op, position)
        return position

    def apply_log_op(self, op: Op, position: int) -> None:
        """The state follows a log op, and the layers follow the state."""
        self.departures.note(op, position, self.state)
        self.state.apply(op, position=position)
        kind = op["op"]
        if kind in ("create", "set_root"):
            self.layers.follow(op["epoch"])
        elif kind == "seal":
            for member in op["members"]:
                if member["epoch"] in self.state.epochs:
                    self.layers.follow(member["epoch"])
        elif kind == "resize" and op["vdisk"] in self.state.vdisks:
            self.layers.follow(self.state.vdisks[op["vdisk"]].head)

    # -- reading ------------------------------------------------------------------------------------------------------

    def read_blocks(self, layer: Layer, block: int, count: int) -> list[Buffer]:
        """Verified private copies of whole blocks. Raises DamagedData."""
        try:
            if count == 1:
                return [self._one_block(layer, block)]
            return [self._fetch(piece) for piece in plan(layer, block, count)]
        except DamagedExtent as exc:
            self.report(exc.digest)
            raise

    def read_chunks_later(self, layer: Layer, block: int, count: int) -> Callable[[], Sequence[Buffer]] | None:
        """A read of whole blocks for another thread; None unless all of them lie in the extent store, where a place is
        written once. (Log and hot tier are this thread's.)"""
        pieces = whole_chunks(layer, block, count)
        if pieces is None:
            if next(walk(layer, block, count)).kind not in _SETTLED:
                return None
            pieces = plan(layer, block, count)
            if any(piece.kind not in _SETTLED for piece in pieces):
                return None
        return lambda: [self._fetch(piece) for piece in pieces]

    def _one_block(self, layer: Layer, block: int) -> Buffer:
        found = look_up(layer, block)
        if isinstance(found, bytes):
            return _ZERO_BLOCK if found == ZERO_HASH else self._chunks.read_blocks(found, block % layer.per_chunk, 1)
        if found == NO_PLACE:
            return _ZERO_BLOCK
        reader = self._hot_reader if found & HOT_BIT else self._log_reader
        return reader.read(found >> POSITION_SHIFT, BLOCK_BYTES, (found & CRC_MASK,))

    def report(self, digest: bytes) -> None:
        """Have it healed in the background, asked for once in a while. The read itself fails at once: this thread
        serves every disk and waits for no network.
        """
        now = self.clock.monotonic()
        if now - self._reported.get(digest, -DAMAGE_REPEAT_SECONDS) >= DAMAGE_REPEAT_SECONDS:
            if len(self._reported) >= DAMAGE_REPORTS_MAX:
                self._reported.clear()
            self._reported[digest] = now
            self.on_damage(digest)

    def _fetch(self, piece: Piece) -> Buffer:
        length = piece.blocks * BLOCK_BYTES
        if piece.kind is Kind.ZEROS:
            return ZEROS[:length] if length <= len(ZEROS) else bytes(length)
        if piece.kind is Kind.LOST:
            raise lost_blocks()
        if piece.kind is Kind.CHUNK:
            return self._chunks.read_blocks(piece.digest, piece.start, piece.blocks)
        reader = self._hot_reader if piece.kind is Kind.HOT else self._log_reader
        return reader.read(piece.start, length, piece.crcs)

    # -- durability ---------------------------------------------------------------------------------------------------

    def request_sync(self, position: int) -> None:
        if position > self.log.durable.position:
            self.sync.ask()

    def close(self) -> None:
        self.sync.stop()
        if self.sync.is_alive():
            self.sync.join(10)


def _own(item: Append) -> Append:
    return item._replace(data=bytes(item.data)) if isinstance(item.data, memoryview) else item


def _place(contents: Sequence[EpochContent], appends: Sequence[Append], results: Sequence[Appended]) -> None:
    """Enter an appended batch in the maps, in its order."""
    for content, (kind, _, offset, _, length), (position, crcs) in zip(contents, appends, results, strict=True):
        block = offset // BLOCK_BYTES
        if length == BLOCK_BYTES and kind == WRITE:
            content.write(block, position << POSITION_SHIFT | crcs[0])
        elif kind == ZERO:
            content.zero(block, length // BLOCK_BYTES)
        else:
            place_run(content, block, position, crcs)
