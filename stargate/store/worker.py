# SPDX-License-Identifier: Apache-2.0
"""The store's background work: drain what is due, fold what was sealed, drop what nobody needs, hand back hot regions.

Two threads: the drain must never wait for a fold, for guests wait for the drain. The extent store is safe between
threads; the hot writer belongs to the drain thread; the catalog hub orders their commits.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from stargate.catalog.state import Epoch
from stargate.errors import DamagedData, LogDamaged, LogFrozen, NoSpace, StaleToken, StargateError, Unavailable
from stargate.extents.format import DamagedExtent, MissingChild, StoreFrozen
from stargate.extents.store import ExtentStore
from stargate.fs.disk import Disk
from stargate.hot.format import REGION_BYTES
from stargate.hot.regions import HotReader, HotWriter, read_batch_table
from stargate.oplog.format import LogMark, first_mark
from stargate.oplog.reader import LogReader
from stargate.oplog.superblock import superblock_exists
from stargate.store.drain import Drainer, collect
from stargate.store.fold import Folder, content_of, next_chain
from stargate.store.hub import CatalogHub
from stargate.store.logdamage import LogWatch, before_damage
from stargate.store.reclaim import HOT_LIMIT_BYTES, Reclaim
from stargate.store.rest import Rest
from stargate.store.space import Space

log = logging.getLogger(__name__)

IDLE_DRAIN_SECONDS = 1.0
DRAIN_FROM_FRACTION = 1 / 3
RETRY_SECONDS = 2.0


class Worker:
    """Owns drain and fold; see the module."""

    def __init__(
        self,
        disk: Disk,
        hub: CatalogHub,
        extents: ExtentStore,
        on_fatal: Callable[[], None],
        hot_limit_bytes: int = HOT_LIMIT_BYTES,
        region_bytes: int = REGION_BYTES,
    ) -> None:
        self._disk = disk
        self._hub = hub
        self._extents = extents
        self._on_fatal = on_fatal
        self.reclaim = Reclaim(lambda: extents.appender.appended_bytes, hot_limit_bytes)
        live = [ref for e in hub.state.epochs.values() for ref in e.batches]
        self._hot = HotWriter.open(disk, "hot", live=live, region_bytes=region_bytes, readers=True)
        self._hot_reader = HotReader(disk, "hot")
        self._reader: LogReader | None = None
        self._drainer: Drainer | None = None
        self._wake = threading.Condition()
        self._news = 0  # what happened since a turn of either loop began must not be slept over
        self._durable = 0
        self._cap_bytes = 1
        self._demand = 0
        self._waiters = 0
        self._stopping = False
        self._seal_asked_at = -1
        self._refs = 0  # whole chunks drained since the last seal
        self.log_watch = LogWatch(hub)
        self._rest = Rest(lambda: self.log_fill, self._is_pressed, self.doze)
        self.last_error = ""
        self.space: Space | None = None
        """Says when there is room for bulk work; None: always."""
        self._poisoned: dict[str, str] = {}
        self.on_damage: Callable[[Iterable[bytes]], None] = _nobody
        self.log_bytes = 0  # undrained, as the front last said
        self._threads = [
            threading.Thread(target=self._loop, args=(self._drain_turn,), name="drain", daemon=True),
            threading.Thread(target=self._loop, args=(self._fold_turn,), name="fold", daemon=True),
        ]

    def start(self) -> None:
        with self._hub.lock:
            self._drop_epochs()  # what an earlier process had no time for
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        with self._wake:
            self._stopping = True
            self._tell()
        for thread in self._threads:
            thread.join(10)

    # -- what the front says ------------------------------------------------------------------------------------------

    def log_state(self, durable: int, used_bytes: int, cap_bytes: int) -> None:
        with self._wake:
            self.log_bytes = used_bytes
            self._durable = max(self._durable, durable)
            self._cap_bytes = cap_bytes
            self._tell()

    def delete_early(self, snapshots: Sequence[str]) -> None:
        """The front deleted these durably, and nothing in the log needs them (`front.departures`): no need to wait for
        the drain, which may be waiting for their space.
        """
        with self._hub.lock:
            gone = [s for s in snapshots if s in self._hub.state.snapshots]
            for snapshot in gone:
                self._hub.commit({"op": "snapshot_delete", "snapshot": snapshot})
            if gone:
                self._drop_epochs()

    def drain_to(self, position: int) -> None:
        """Do not wait for the log to fill: somebody needs what lies below `position`."""
        with self._wake:
            self._demand = max(self._demand, position)
            self._tell()

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """While somebody waits for what the log holds, nothing in it waits to be drained."""
        with self._wake:
            self._waiters += 1
            self._tell()
        try:
            yield
        finally:
            with self._wake:
                self._waiters -= 1

    def _calm(self, covered: int) -> bool:
        return not self._waiters and self._demand <= covered

    def _is_pressed(self) -> bool:
        """Whether a fold may not rest: hot tier or storage wait for it."""
        return self.hot_bytes >= self.reclaim.hot_limit_bytes or self.reclaim.is_tight()

    @property
    def hot_bytes(self) -> int:
        return sum(ref.length for e in list(self._hub.state.epochs.values()) for ref in e.batches)

    # -- damage -------------------------------------------------------------------------------------------------------

    def durable_log(self) -> tuple[LogReader, LogMark, int] | None:
        """A reader of its own, the covered mark and the durable position; None while there is no log."""
        if not superblock_exists(self._disk, "oplog") or not self._durable:
            return None
        reader, covered = LogReader(self._disk, "oplog"), self._hub.state.covered
        return reader, covered if covered.position else first_mark(reader.info.log_id), self._durable

    def poisoned(self) -> dict[str, str]:
        """Epochs that cannot be folded, for bytes of theirs are damaged: why. Rootless, they are never replicated."""
        with self._hub.lock:
            self._poisoned = {epoch: why for epoch, why in self._poisoned.items() if self._is_unfolded(epoch)}
            return dict(self._poisoned)

    def _is_unfolded(self, epoch: str) -> bool:
        found = self._hub.state.epochs.get(epoch)
        return found is not None and found.root is None

    def healed(self) -> None:
        """Damage was healed: every epoch is tried again."""
        with self._wake:
            self._poisoned = {}
            self._tell()

    # -- loops --------------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Both loops look again at once, also one whose turn is just ending."""
        with self._wake:
            self._news += 1
            self._wake.notify_all()

    def _heard(self, news: int) -> bool:
        return self._news != news

    def _loop(self, turn: Callable[[], bool]) -> None:
        while not self._stopping:
            news = self._news
            try:
                worked = turn()
                self.last_error = ""
                if worked and self.space is not None:
                    self.space.worked()
            except (StaleToken, LogFrozen, StoreFrozen) as exc:
                self._fatal(exc)
                return
            except NoSpace as exc:
                worked = False
                self._wait_for_space(exc)
            except (OSError, StargateError) as exc:
                if type(exc) is Unavailable:  # a writer that failed before: only a restart makes it usable
                    self._fatal(exc)
                    return
                log.exception("background work failed; it is tried again")
                self.last_error = str(exc)
                worked = False
                with self._wake:
                    self._wake.wait_for(lambda: self._stopping, RETRY_SECONDS)
            except Exception:
                log.exception("background work failed in a way nobody foresaw")
                self._on_fatal()
                return
            if not worked:
                with self._wake:
                    self._wake.wait_for(partial(self._heard, news), IDLE_DRAIN_SECONDS)

    def _admit(self) -> None:
        """Before bulk work. Raises NoSpace."""
        if self.space is not None:
            self.space.bulk()

    def _wait_for_space(self, exc: NoSpace) -> None:
        if self.last_error != exc.message:
            log.warning("%s", exc.message)
        self.last_error = exc.message
        if self.space is not None:
            self.space.failed()
        with self._wake:
            self._wake.wait_for(lambda: self._stopping, RETRY_SECONDS)

    def _fatal(self, exc: StargateError) -> None:
        """Nothing more may be written by this process; the supervisor starts a new one, which recovers."""
        log.critical("%s", exc.message)
        self._on_fatal()

    # -- drain --------------------------------------------------------------------------------------------------------

    def _covered(self) -> LogMark:
        covered = self._hub.state.covered
        if covered.position or self._reader is None:
            return covered
        return first_mark(self._reader.info.log_id)

    def _open_log(self) -> None:
        if self._reader is None:
            self._reader = LogReader(self._disk, "oplog")
            self._drainer = Drainer(self._reader, self._extents, self._hot)

    def _drain_turn(self) -> bool:
        self._hub.check_owner()
        if self._reader is None and not superblock_exists(self._disk, "oplog"):
            return False
        self._open_log()
        covered = self._covered()
        backlog = self._durable - covered.position
        if backlog <= 0 or self.log_watch.rests(covered.position) or self._waits_for_space():
            return False
        if backlog < self._cap_bytes * DRAIN_FROM_FRACTION and self._calm(covered.position):
            durable = self._durable
            with self._wake:
                self._wake.wait_for(
                    lambda: self._durable != durable or not self._calm(covered.position), IDLE_DRAIN_SECONDS
                )
            if self._durable != durable and self._calm(covered.position):
                return True  # guests are at work and there is room: wait until they pause or the log fills up
        return self._drain_window(covered)

    def drain_now(self, durable: int) -> None:
        """In the caller's thread, of a worker that was not started: everything below position `durable`.

        Raises LogDamaged, NoSpace, StoreFrozen.
        """
        self._durable = durable
        self._open_log()
        while self._drain_window(self._covered()):
            continue

    def _drain_window(self, covered: LogMark) -> bool:
        assert self._reader is not None
        assert self._drainer is not None
        self._admit()
        with self._extents.hold():
            batches = before_damage(self._reader.batches(covered, self._durable))
            try:
                window = collect(self._hub.state, covered, batches, copying=self._hub.lock)
            except LogDamaged as exc:
                self.log_watch.failed(covered.position, exc)
                raise
            if window.mark.position <= covered.position:
                return False
            try:
                written = self._drainer.write(window, covered)
                with self._hub.lock:
                    if self._covered() != covered:
                        return False
                    self._hub.commit(
                        {"op": "drained", "covered": list(window.mark), "log_ops": window.log_ops, "batches": written}
                    )
            except NoSpace:
                self._hot.rollback()
                raise
            with self._hub.lock:
                self._drop_epochs()  # no space for this takes nothing of the window back: it is in the catalog
        self._refs += self._drainer.refs
        self._seal_when_due()
        self._tell()  # it may have sealed what is to be folded
        return True

    def _seal_when_due(self) -> None:
        """Have the open epochs sealed, so that they can be folded, their regions and what they overwrote come back, and
        the front finds their chunks in a tree instead of in memory."""
        with self._hub.lock:
            state, front, covered = self._hub.state, self._hub.front, self._hub.state.covered.position
            if front is None or self._seal_asked_at == covered:
                return
            unfolded = [epoch for epoch in state.epochs.values() if epoch.root is None]
            if not self.reclaim.seal_due(unfolded, self._refs) or next_chain(state, self._poisoned) is not None:
                return
        self._seal_asked_at = covered
        self._refs = 0
        with suppress(Unavailable):  # the front is gone: asked again after the next window
            front.send("seal")

    def _waits_for_space(self) -> bool:
        """Whether the drain shall wait: there is little space, and fold or sweep are about to give some back. When they
        cannot, it goes on until the storage is full.
        """
        if self.last_error or not self.reclaim.is_tight():
            return False
        with self._hub.lock:
            return self.reclaim.is_at_work() or next_chain(self._hub.state, self._poisoned) is not None

    # -- fold ---------------------------------------------------------------------------------------------------------

    def _fold_turn(self) -> bool:
        self._hub.check_owner()
        with self._hub.lock:
            chain = next_chain(self._hub.state, self._poisoned)
        if chain is None:
            return False
        self._admit()
        epoch = chain[-1]
        try:
            self._fold(chain)
        except (DamagedData, MissingChild) as exc:  # a chunk of the drain may be lost from the index, too
            log.error("epoch %s cannot be folded, its disk stays readable but for the damage: %s", epoch.epoch, exc)
            with self._hub.lock:
                self._poisoned[epoch.epoch] = exc.message
            self.on_damage([exc.digest] if isinstance(exc, (DamagedExtent, MissingChild)) else [])
        return True

    def _fold(self, chain: list[Epoch]) -> None:
        """Root of the last epoch of the chain. Raises DamagedData."""
        epoch = chain[-1]
        parent = self._hub.state.epochs.get(chain[0].parent or "")
        parent_root = bytes.fromhex(parent.root) if parent is not None and parent.root is not None else None
        self._rest.begin()
        content = content_of(chain, lambda ref: read_batch_table(self._disk, "hot", ref))
        with self._extents.hold():
            root = Folder(self._extents, self._hot_reader, self._yield).fold(epoch, content, parent_root)
            with self._hub.lock:
                self._hub.commit({"op": "rooted", "epoch": epoch.epoch, "root": root.hex()})
                self.reclaim.version_went()  # also of what it overwrote itself
                self._drop_epochs()

    def _yield(self) -> None:
        """Between steps of a fold: the drain and the guests come first."""
        self._rest()

    @property
    def log_fill(self) -> float:
        """Used part of the log."""
        return self.log_bytes / self._cap_bytes

    def doze(self, seconds: float) -> None:
        """Or until this worker stops."""
        with self._wake:
            self._wake.wait_for(lambda: self._stopping, seconds)

    def _drop_epochs(self) -> None:
        """Under the hub's lock: forget epochs that nobody reads through, then regions without live batches."""
        names = self._hub.state.droppable_epochs()
        if names:
            self._hub.commit({"op": "epochs_dropped", "epochs": names})
            self.reclaim.version_went()
        live = {ref.region for e in self._hub.state.epochs.values() for ref in e.batches}
        for region in self._hot.regions() - live:
            self._hub.after_ack(self._hub.state.n, partial(self._free, region))

    def _free(self, region: int) -> None:
        with self._hub.lock:
            live = {ref.region for e in self._hub.state.epochs.values() for ref in e.batches}
            if region not in live:
                self._hot.free(region)


def _nobody(digests: Iterable[bytes]) -> None:
    """Nobody heals: there is no scrub beside this worker."""
