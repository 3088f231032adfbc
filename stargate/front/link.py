# SPDX-License-Identifier: Apache-2.0
"""The front's end of the line to the store process (see stargate.internal).

A thread reads the line; what it brings is applied in the NBD loop, in order and in slices, so that a large drained
window never
holds up guests. Without a store the front serves on: the log fills, writers are paced.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice

from stargate.catalog.state import BatchRef, Op
from stargate.content import SHARD_BITS, ZERO, EpochContent
from stargate.errors import DamagedData, StargateError, Unavailable
from stargate.front import ops
from stargate.front.damage import Damage
from stargate.front.engine import FrontEngine
from stargate.front.layers import HOT_BIT, POSITION_SHIFT
from stargate.hot.format import HotTable
from stargate.internal import Line

log = logging.getLogger(__name__)

SLICE_ENTRIES = 1000
"""Map entries moved per turn of the loop: about half a millisecond."""

SLICE_CHUNKS = 64
"""The same for whole chunks of sixteen entries. A turn for each cost two system calls for ten microseconds of work."""

RECONNECT_SECONDS = 0.5
REPORT_SECONDS = 0.1

ReadTable = Callable[[BatchRef], HotTable]


class StoreLink:
    """Connects, reconnects, applies store ops and reports the log's durable position."""

    def __init__(
        self,
        engine: FrontEngine,
        path: str,
        *,
        call_soon: Callable[[Callable[[], None]], None],
        read_table: ReadTable,
        on_restart: Callable[[], None],
        is_stale: Callable[[], bool] = lambda: False,
        tidy: Callable[[], None] = lambda: None,
    ) -> None:
        """`is_stale`: whether the store made the index anew since this process opened it. `tidy`: called all the time,
        outside of the loop, to let go of files that the store removed.
        """
        self._tidy = tidy
        self._engine = engine
        self._path = path
        self._call_soon = call_soon
        self._read_table = read_table
        self._on_restart = on_restart
        self._is_stale = is_stale
        self._stop = threading.Event()
        self._line: Line | None = None
        self._queue: deque[tuple[Op, list[tuple[str, HotTable]]]] = deque()
        self._told = engine.state.n  # number of the last op in the queue or applied; the reader thread's
        self._work: Iterator[None] | None = None
        self._pumping = False  # a call to `_pump` is on its way
        engine.on_damage = self._damaged
        self._reader = threading.Thread(target=self._run, name="store-link", daemon=True)
        self._reporter = threading.Thread(target=self._report, name="store-report", daemon=True)

    @property
    def connected(self) -> bool:
        return self._line is not None

    def store_pid(self) -> int | None:
        """None without a store."""
        line = self._line
        return None if line is None else line.peer_pid()

    def start(self) -> None:
        self._reader.start()
        self._reporter.start()

    def stop(self) -> None:
        self._stop.set()
        line = self._line
        if line is not None:
            line.close()

    # -- the reader thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._session()
            except (OSError, StargateError) as exc:
                log.debug("no store process: %s", exc)
            except Exception:
                log.exception("the line to the store failed; it is opened again")
            line, self._line = self._line, None
            if line is not None:
                line.close()
            self._stop.wait(RECONNECT_SECONDS)

    def _session(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(self._path)
        line = Line(sock)
        line.send("hello", log_id=self._engine.state.log_id, n=self._told, applied=self._engine.state.n)
        for message in line.messages():
            kind = message["t"]
            if kind == "welcome":
                if self._is_stale():
                    log.error("the store made a new index: restarting the front")
                    self._on_restart()
                    return
                if message.get("restart"):
                    log.error(
                        "the store knows nothing of our catalog position %d: restarting the front", self._engine.state.n
                    )
                    self._on_restart()
                    return
                self._line = line
                for op in message["ops"]:
                    self._take(op)
            elif kind == "op":
                self._take(message["op"])
            elif kind == "seal":
                self._call_soon(self._seal_all)
            elif kind == "log_damaged":
                self._call_soon(partial(self._log_damaged, message["position"], message["reason"]))
            elif kind == "space":
                self._call_soon(self._storage_full if message["full"] else self._storage_good)
            else:
                log.warning("unknown message from the store: %s", kind)

    def _take(self, op: Op) -> None:
        """Read the batch tables here, outside the loop, then hand the op to the loop."""
        tables = []
        if op["op"] == "drained":
            for batch in op["batches"]:
                try:
                    tables.append((batch["epoch"], self._read_table(BatchRef(*batch["ref"]))))
                except DamagedData as exc:
                    # Its blocks keep pointing into the log, and are refused once that is written over.
                    log.error("a drained batch cannot be read, its blocks are lost: %s", exc.message)
        self._told = op["n"]
        self._queue.append((op, tables))
        self._ask_pump()

    def _ask_pump(self) -> None:
        """One slice is asked for at a time: a fold of many disks sends many ops at once, and the loop makes all calls
        that it finds in one turn.
        """
        if not self._pumping:
            self._pumping = True
            self._call_soon(self._pump)

    def _report(self) -> None:
        told: tuple[Line | None, int] = None, -1
        while not self._stop.wait(REPORT_SECONDS):
            self._tidy()
            line, durable = self._line, self._engine.log.durable.position
            if line is not None and told != (line, durable):
                try:
                    line.send("log", durable=durable, used=self._engine.log.used_bytes, cap=self._engine.log.cap_bytes)
                    told = line, durable
                except Unavailable:
                    continue

    def _damaged(self, digest: bytes) -> None:
        """A read met a damaged chunk or node: the store has it healed."""
        line = self._line
        if line is not None:
            with suppress(Unavailable):
                line.send("damaged", extent=digest.hex())

    def _log_damaged(self, position: int, reason: str) -> None:
        """What comes now could not be recovered after the next start: take no more, and go on reading from the maps."""
        if self._engine.damage is None:
            self._engine.damage = Damage(position, reason, heads_lost=False)
            log.critical("%s", self._engine.damage.message)

    # -- in the loop --------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """One slice of the oldest op."""
        self._pumping = False  # before the queue is looked at: whoever fills it from here on asks again
        if self._work is None:
            if not self._queue:
                return
            op, tables = self._queue[0]
            self._work = self._apply(op, tables)
        try:
            ended = next(self._work, StopIteration) is StopIteration
        except Exception:
            log.exception("op %d of the store cannot be applied: restarting the front", self._queue[0][0]["n"])
            self._on_restart()
            return  # nothing after it is applied; the catalog tells the next process all of it
        if ended:
            self._work = None
            self._queue.popleft()
            if not self._queue:
                return
        self._ask_pump()

    def _apply(self, op: Op, tables: list[tuple[str, HotTable]]) -> Iterator[None]:
        engine = self._engine
        if op["n"] <= engine.state.n:
            return
        if op["op"] == "drained":
            covered = op["covered"][0]
            for epoch, table in tables:
                if epoch in engine.state.epochs:
                    yield from swap(engine.layers.get(epoch).content, table, covered)
            engine.state.apply({k: v for k, v in op.items() if k != "log_ops"})
            engine.log.release(covered)
            for snapshot in engine.departures.drained(covered):  # as the store did with the same op
                engine.state.apply({"op": "snapshot_delete", "snapshot": snapshot})
            engine.pacer.released(covered)
        else:
            engine.state.apply(op)
            self._follow(op)
        line = self._line
        if line is not None:
            try:
                line.send("ack", n=op["n"])
            except Unavailable:
                log.debug("store gone before the ack of %d", op["n"])

    def _follow(self, op: Op) -> None:
        layers = self._engine.layers
        if op["op"] == "rooted":
            layers.follow(op["epoch"])
        elif op["op"] == "epochs_dropped":
            for epoch in op["epochs"]:
                layers.follow(epoch)
        elif op["op"] == "received":
            for member in op["members"]:
                if member["epoch"] in self._engine.state.epochs:
                    layers.follow(member["epoch"])

    def _storage_full(self) -> None:
        """The store cannot drain: writers are told so, and it is told which snapshots are gone already."""
        engine, line = self._engine, self._line
        if engine.gauge is not None:
            engine.gauge.tell_full()
        names = engine.departures.ready(engine.log.durable.position)
        if names and line is not None:
            with suppress(Unavailable):
                line.send("gone", snapshots=names)

    def _storage_good(self) -> None:
        if self._engine.gauge is not None:
            self._engine.gauge.tell_good()

    def _seal_all(self) -> None:
        """An internal seal of every vDisk that holds drained data in its open epoch."""
        state = self._engine.state
        disks = [d for d in state.vdisks.values() if state.epochs[d.head].batches]
        if disks:
            self._engine.append_ops([ops.seal(disks, snapshot=None)])
            self._engine.sync.ask()


def swap(content: EpochContent, table: HotTable, covered: int) -> Iterator[None]:
    """Point the map at the hot tier where it still points at the drained log records; yields between slices.

    A block that was overwritten or trimmed meanwhile keeps its newer value: the guard is the log position it was
    drained from.
    """
    for number, (chunk, digest) in enumerate(table.chunks, 1):
        _swap_chunk(content, chunk, digest, covered)
        if number % SLICE_CHUNKS == 0:
            yield
    blocks = iter(
        zip(table.blocks.tolist(), table.sources.tolist(), table.positions.tolist(), table.crcs.tolist(), strict=True)
    )
    while True:
        batch = list(islice(blocks, SLICE_ENTRIES))
        if not batch:
            return
        _swap_blocks(content, batch)
        yield


def _swap_blocks(content: EpochContent, batch: Sequence[tuple[int, int, int, int]]) -> None:
    """`batch`: (block, position in the log, position in the hot tier, checksum); neighbours share a shard."""
    key, shard = -1, None
    for block, source, position, crc in batch:
        if block >> SHARD_BITS != key:
            key = block >> SHARD_BITS
            shard = content.shards.get(key)
        if shard is None:
            continue
        old = shard.get(block)
        if old is not None and old >> POSITION_SHIFT == source and not old & HOT_BIT:
            shard[block] = position << POSITION_SHIFT | HOT_BIT | crc


def _swap_chunk(content: EpochContent, chunk: int, digest: bytes, covered: int) -> None:
    """The window covered the whole chunk. Newer single blocks stay over it; blocks trimmed since become explicit
    zeros."""
    first = chunk * content.blocks_per_chunk
    shard = content.shards.get(first >> SHARD_BITS, {})
    values = list(map(shard.get, range(first, first + content.blocks_per_chunk)))
    keep: list[tuple[int, int]] = []
    for block, value in enumerate(values, first):
        if value is None:
            if chunk in content.chunks and block not in content.zeros:
                continue
            keep.append((block, ZERO))
        elif value == ZERO or (not value & HOT_BIT and value >> POSITION_SHIFT >= covered):
            keep.append((block, value))
    content.set_chunk(chunk, digest)
    for block, value in keep:
        content.write(block, value)
