# SPDX-License-Identifier: Apache-2.0
"""The extent store: puts become visible at `flush` (data durable, then the index), sweeps run beside them
(docs/formats/extents.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from stargate.errors import DamagedData, InvalidArgument, NoSpace, PeerProtocol, ReadOnly
from stargate.extents import egroups, nodes, rebuild, retire, sweep
from stargate.extents import format as ef
from stargate.extents.appender import Appender
from stargate.extents.format import ZERO_HASH, Codec, Kind, StoreFrozen
from stargate.extents.index import Change, Freed, Index, Location, in_batches
from stargate.extents.reader import ExtentReader
from stargate.fs.disk import Buffer, Disk, File

_LOCK = f"{egroups.FOLDER}.lock"


class StoreStats(NamedTuple):
    """`stored_bytes` = egroup files without returned holes; `freed_bytes` of these are deleted but not returned."""

    extents: int
    pending: int
    stored_bytes: int
    freed_bytes: int
    epoch: int


class ExtentStore(ExtentReader):
    """One writing process (a lock file keeps others out), any number of read-only ones. Safe between threads."""

    def __init__(
        self,
        disk: Disk,
        index: Index,
        *,
        writable: bool,
        compress: bool = True,
        egroup_bytes: int = egroups.EGROUP_BYTES,
        roots: Iterable[bytes] = (),
    ) -> None:
        """Raises Unavailable when another process writes. An index that does not belong to the egroups is rebuilt by
        the writer; what the trees under `roots` name is then entered even where some of it is damaged or gone.
        """
        super().__init__(disk, index, read_only=not writable)
        self.writable = writable
        self.compress = compress
        self.lock = threading.RLock()
        self.epoch = 0
        self.make_room: Callable[[], bool] = lambda: False
        """Asked when the index finds no space; True when there is some now."""
        self.frozen = ""
        """Why nothing is written any more; empty while all is well."""
        self._pending: dict[bytes, Location] = {}
        self._touched: set[bytes] = set()
        self.suspects: set[bytes] = set()
        """Known to be damaged or incomplete here: no deduplication hit, no yes to a peer, until stored anew."""
        self._holds: dict[object, int] = {}
        self._floor = 0
        self._lock_file: File | None = None
        if writable:
            self._open_writer(egroup_bytes, roots)

    def _open_writer(self, egroup_bytes: int, roots: Iterable[bytes]) -> None:
        self.disk.mkdir(egroups.FOLDER)
        self._lock_file = self.disk.lock(_LOCK)
        try:
            roots = list(roots)
            self._store_id = self.files.identity(self.index.meta("store_id"), in_use=bool(roots))
            if self.index.meta("store_id") != self._store_id:
                rebuild.rebuild_files(self.files, self.index, self._store_id, roots=roots)
            self.epoch = int.from_bytes(self.index.meta("epoch") or b"\0", "little")
            self.appender = Appender(self.files, self._store_id, egroup_bytes)
        except BaseException:
            self._lock_file.close()
            raise

    # --- puts

    def put_chunk(self, data: Buffer) -> bytes:
        """Store a chunk unless it is there; its hash. Nothing is stored for zeros. Raises InvalidArgument, NoSpace,
        StoreFrozen.
        """
        ef.check_size(Kind.CHUNK, len(data))
        if ef.is_zero(data):
            return ZERO_HASH
        digest = ef.chunk_hash(data)
        with self.lock:
            if not self._touch(digest):
                plain = bytes(data)
                codec, payload = ef.encode(plain, self.compress)
                self._append(Kind.CHUNK, 0, digest, codec, payload, len(plain))
        return digest

    def put_warm(self, data: Buffer, crcs: Sequence[int]) -> bytes:
        """`put_chunk` for what a guest just wrote: kept raw, for it will be read, and under the checksums of its blocks
        that it was just checked against. `data` must stay as it is until `flush` (or for good, when that fails).
        """
        ef.check_size(Kind.CHUNK, len(data))
        if ef.is_zero(data):
            return ZERO_HASH
        digest = ef.chunk_hash(data)
        with self.lock:
            if not self._touch(digest):
                self._append(Kind.CHUNK, 0, digest, Codec.RAW, data, len(data), ef.pack_crcs(crcs))
        return digest

    def put_node(self, kind: int, payload: bytes, *, base: bytes | None = None) -> bytes:
        """Store a tree node and give its hash. `base` = a present node from which unchanged children come: these are
        not looked up again.

        Raises MissingChild: presence of a node means a complete subtree. Raises DamagedData when the payload is no
        node of that kind.
        """
        level = nodes.level_of(kind, payload)
        if kind == Kind.CHUNK:
            raise InvalidArgument("a chunk is not a node")
        digest = ef.node_hash(payload)
        with self.lock:
            if not self._touch(digest):
                self._check_children(kind, payload, base)
                codec, stored = ef.encode(payload, self.compress)
                self._append(kind, level, digest, codec, stored, len(payload))
        self._nodes.put(digest, payload)
        return digest

    def put_verified(
        self, kind: int, digest: bytes, codec: int, payload: bytes, size_bytes: int, *, repair: bool = False
    ) -> None:
        """Store bytes that a peer sent under a hash, after every check. Raises PeerProtocol, MissingChild, NoSpace,
        StoreFrozen.

        `repair` stores what our own trees name: also when the hash is present (its place is damaged), also before its
        children.
        """
        try:
            plain = ef.check_foreign(kind, digest, codec, payload, size_bytes)
            level = nodes.level_of(kind, plain)
        except (DamagedData, InvalidArgument) as exc:
            raise PeerProtocol("the peer sent an extent that fails its checks", f"{exc.message} {exc.detail}") from exc
        with self.lock:
            if repair:
                self._check_writable()
                self.suspects.add(digest)
            elif self._touch(digest):
                return
            try:
                if not repair:
                    self._check_children(kind, plain, None)
            except DamagedData as exc:
                raise PeerProtocol("the peer sent a node over children of another kind", exc.message) from exc
            if len(payload) * 4 > size_bytes * 3:
                codec, payload = Codec.RAW, plain
            self._append(kind, level, digest, codec, payload, size_bytes)

    def has(self, digests: Sequence[bytes]) -> list[bool]:
        """Which are present and visible (for a node: with its whole subtree). Hits are protected from the running
        sweep. Holes are present.
        """
        self._check_writable()
        with self.lock:
            found = self.index.get_many(digests)
            stale = [
                (d, loc._replace(stamp=self.epoch))
                for d, loc in zip(digests, found, strict=True)
                if loc and loc.stamp != self.epoch
            ]
            for batch in in_batches(stale):
                self.commit_index(Change(puts=batch))
        return [
            (loc is not None and digest not in self.suspects) or digest == ZERO_HASH
            for digest, loc in zip(digests, found, strict=True)
        ]

    def flush(self) -> None:
        """Egroups durable, then the index: what was put before is visible when this returns. Raises NoSpace (try
        again), StoreFrozen.
        """
        with self.lock:
            self._check_writable()
            try:
                self.appender.sync()
            except StoreFrozen as exc:
                self.frozen = exc.message
                raise
            meta = () if self.index.meta("store_id") == self.store_id else (("store_id", self.store_id),)
            for batch in in_batches(list(self._pending.items())):
                puts = [(digest, location._replace(stamp=self.epoch)) for digest, location in batch]
                self.commit_index(Change(puts=puts, freed=self._replaced(batch), meta=meta))
                for digest, _ in batch:
                    del self._pending[digest]
                    if digest in self.suspects:
                        self.suspects.discard(digest)
                        self.drop_cached(digest)
            touched = list(self._touched)
            for at in range(0, len(touched), 2048):
                self.has(touched[at : at + 2048])
            self._touched.clear()

    def _replaced(self, batch: Sequence[tuple[bytes, Location]]) -> list[Freed]:
        """The places that new copies of damaged extents leave behind."""
        healed = [(digest, new) for digest, new in batch if digest in self.suspects]
        old = self.index.get_many([digest for digest, _ in healed])
        return [
            Freed(was.egroup, was.offset, ef.extent_bytes(was.stored_bytes))
            for (_, new), was in zip(healed, old, strict=True)
            if was is not None and (was.egroup, was.offset) != (new.egroup, new.offset)
        ]

    # --- sweeping

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Around an ingest (drain window, fold, incoming version) until its root is known to the sweep's owner.

        What is put or asked for inside survives every sweep that deletes meanwhile, even one that begins later.
        """
        key = object()
        with self.lock:
            self._holds[key] = self.epoch
        try:
            yield
        finally:
            with self.lock:
                del self._holds[key]

    def sweep_begin(self, keep_from: int | None = None) -> int:
        """A new sweep epoch, durable. Collect what is named after this call.

        `keep_from`: what was stamped in this epoch or later is kept too, for ingests that are open but not connected.
        """
        self._check_writable()
        with self.lock:
            self.commit_index(Change(meta=(("epoch", (self.epoch + 1).to_bytes(8, "little")),)))
            self.epoch += 1
            self._floor = min([self.epoch, *self._holds.values(), *([] if keep_from is None else [keep_from])])
            return self.epoch

    def sweep_steps(self, named: Iterable[bytes], epoch: int) -> Iterator[list[Freed]]:
        """Delete what `named` (roots, chunks; iterated over several times) does not need and nobody stamped since
        `epoch` began, parents first; what was freed, batch by batch. Raises MissingExtent, DamagedData.
        """
        self._check_writable()
        return sweep.delete(self, named, epoch)

    def sweep_delete(self, named: Iterable[bytes], epoch: int) -> list[Freed]:
        """All of `sweep_steps` at once."""
        return [item for batch in self.sweep_steps(named, epoch) for item in batch]

    def punch(self, freed: Sequence[Freed] | None = None) -> int:
        """Return ranges to the file system once no reader from before the deletion is left; bytes. None = all that is
        owed.
        """
        self._check_writable()
        return sweep.give_back(self, freed)

    def retire(self) -> int:
        """Remove extent groups in which nothing is left; how many. Raises NoSpace, StoreFrozen."""
        self._check_writable()
        return retire.retire(self)

    def is_done_with(self, egroup: int) -> bool:
        """Whether nothing more goes into this group, and all that did is durable. Call with `lock` held."""
        return self.appender.is_done_with(egroup)

    def cut(self, epoch: int) -> int:
        """Stamps from here on are kept: `epoch`, or the one of the oldest ingest that is open or was when the sweep
        began.
        One that ended since may have named its root after the live hashes were collected.
        """
        return min([epoch, self._floor, *self._holds.values()])

    def is_claimed(self, digest: bytes) -> bool:
        """Whether a put since the last flush relies on it. Call with `lock` held."""
        return digest in self._touched or digest in self._pending

    def located(self, digest: bytes) -> Location | None:
        """Where it lies, flushed or not. Call with `lock` held."""
        return self._pending.get(digest) or self.index.get(digest)

    def waiting(self) -> list[Location]:
        """Places of what was put and not flushed. Call with `lock` held."""
        return list(self._pending.values())

    def stats(self) -> StoreStats:
        size = sum(self.files.file(egroup).size() for egroup in self.files.numbers())
        freed = sum(item.length for item in self.index.freed())
        return StoreStats(self.index.count(), len(self._pending), size - self.returned_bytes(), freed, self.epoch)

    def returned_bytes(self) -> int:
        """Holes in the egroups so far."""
        return int.from_bytes(self.index.meta("returned_bytes") or b"\0", "little")

    def rebuild(self) -> int:
        """Make the index anew from the egroups; how many extents it has. Nothing may be pending: flush first."""
        with self.lock:
            self._check_writable()
            if self._pending:
                raise InvalidArgument("flush before rebuilding the index")
            self._opened.clear()
            return rebuild.rebuild_files(self.files, self.index, self.store_id, epoch=self.epoch)

    def suspect(self, digests: Iterable[bytes]) -> None:
        """These are damaged, missing, or stand above something that is."""
        with self.lock:
            for digest in digests:
                if digest not in self._pending:
                    self.suspects.add(digest)
                    self.drop_cached(digest)

    def acquit(self, digests: Iterable[bytes]) -> None:
        """These proved to be sound, or complete."""
        with self.lock:
            self.suspects.difference_update(digests)

    def close(self) -> None:
        """Release files and lock. What was not flushed is gone."""
        super().close()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def _check_writable(self) -> None:
        if not self.writable:
            raise ReadOnly("this process opened the extent store for reading")
        if self.frozen:
            raise StoreFrozen(self.frozen)

    def commit_index(self, change: Change) -> None:
        """One index transaction; a failure other than a lack of space freezes the store. Call with `lock` held."""
        try:
            try:
                self.index.commit(change)
            except NoSpace:
                if not self.make_room():
                    raise
                self.index.commit(change)
        except StoreFrozen as exc:
            self.frozen = exc.message
            raise

    def _touch(self, digest: bytes) -> bool:
        """Whether it is present or pending; if so no sweep deletes it before this ingest ends."""
        self._check_writable()
        if digest in self.suspects:
            return digest in self._pending
        if digest in self._touched or digest in self._pending:
            return True
        if self.index.get(digest) is None:
            return False
        self._touched.add(digest)
        return True

    def _claims(self, digests: Iterable[bytes]) -> dict[bytes, Location | None]:
        """Where each is, protected as by `_touch`; None: nowhere. One question to the index."""
        found = {digest: self._pending.get(digest) for digest in digests}
        asked = [digest for digest, location in found.items() if location is None]
        found.update(zip(asked, self.index.get_many(asked), strict=True))
        self._touched.update(digest for digest in asked if found[digest] is not None)
        return found

    def _check_children(self, kind: int, payload: bytes, base: bytes | None) -> None:
        if kind == Kind.CHUNK:
            return
        if kind != Kind.ROOT and base is not None and self._touch(base):
            missing = nodes.new_children(payload, self.read_node(base))
        else:
            missing = nodes.children(kind, payload)
        nodes.check_children(kind, payload, self._claims(missing))

    def _append(
        self, kind: int, level: int, digest: bytes, codec: int, payload: Buffer, size_bytes: int, crcs: bytes = b""
    ) -> None:
        """`crcs` empty: they are computed."""
        length = ef.extent_bytes(len(payload))
        try:
            egroup, offset = self.appender.reserve(length)
        except StoreFrozen as exc:
            self.frozen = exc.message
            raise
        header = ef.ExtentHeader(kind, codec, level, size_bytes, len(payload), digest, crcs or ef.block_crcs(payload))
        self.appender.append((ef.pack_header(header, self.store_id, egroup, offset), payload))
        self._pending[digest] = Location(egroup, offset, len(payload), size_bytes, kind, codec, level, self.epoch)

    def _locate(self, digest: bytes) -> Location:
        return self._pending.get(digest) or super()._locate(digest)

    def _before_read(self, location: Location) -> None:
        """Most is written, which shows without the lock: who holds it may be at a long write."""
        if not self.writable or not self.appender.unwritten(location.egroup, location.offset):
            return
        with self.lock:
            if self.appender.unwritten(location.egroup, location.offset):
                self.appender.spill()
