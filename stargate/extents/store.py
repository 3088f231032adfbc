# SPDX-License-Identifier: Apache-2.0
"""The extent store: puts become visible at `flush` (data durable, then the index), sweeps run beside them
(docs/formats/extents.md).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from stargate.errors import DamagedData, InvalidArgument, PeerProtocol, ReadOnly
from stargate.extents import egroups, nodes, rebuild, sweep
from stargate.extents import format as ef
from stargate.extents.format import ZERO_HASH, Codec, Kind, StoreFrozen
from stargate.extents.index import Change, Freed, Index, Location, in_batches
from stargate.extents.reader import ExtentReader
from stargate.fs.disk import Buffer, Disk, File

_ZEROS = bytes(ef.CHUNK_BYTES_MAX)
_PUNCH_BATCH = 256
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
    ) -> None:
        """Raises Unavailable when another process writes. An index that does not belong to the egroups is rebuilt by
        the writer.
        """
        super().__init__(disk, index, read_only=not writable)
        self.writable = writable
        self.compress = compress
        self.lock = threading.RLock()
        self.epoch = 0
        self.frozen = ""
        """Why nothing is written any more; empty while all is well."""
        self._pending: dict[bytes, Location] = {}
        self._touched: set[bytes] = set()
        self._holds: dict[object, int] = {}
        self._floor = 0
        self._lock_file: File | None = None
        if writable:
            self._open_writer(egroup_bytes)

    def _open_writer(self, egroup_bytes: int) -> None:
        self.disk.mkdir(egroups.FOLDER)
        self._lock_file = self.disk.lock(_LOCK)
        try:
            self._store_id = self._identity()
            if self.index.meta("store_id") != self._store_id:
                rebuild.rebuild_files(self.files, self.index, self._store_id)
            self.epoch = int.from_bytes(self.index.meta("epoch") or b"\0", "little")
            self._appender = egroups.Appender(self.files, self._store_id, egroup_bytes)
        except BaseException:
            self._lock_file.close()
            raise

    def _identity(self) -> bytes:
        """The store's id, made when it is new. Raises DamagedData rather than start a new store over unreadable
        egroups.
        """
        found = self.files.store_id() or self.index.meta("store_id")
        if found is None and any(self.files.file(n).size() > egroups.HEAD_BYTES for n in self.files.numbers()):
            raise DamagedData(
                "no extent group has a readable header and the index is gone; restore a header from a copy"
            )
        return found or os.urandom(16)

    # --- puts

    def put_chunk(self, data: Buffer) -> bytes:
        """Store a chunk unless it is there; its hash. Nothing is stored for zeros. Raises InvalidArgument, NoSpace,
        StoreFrozen.
        """
        ef.check_size(Kind.CHUNK, len(data))
        if is_zero(data):
            return ZERO_HASH
        digest = ef.chunk_hash(data)
        with self.lock:
            if not self._touch(digest):
                plain = bytes(data)
                codec, payload = ef.encode(plain, self.compress)
                self._append(Kind.CHUNK, 0, digest, codec, payload, len(plain))
        return digest

    def put_many(self, chunks: Iterable[Buffer]) -> list[bytes]:
        """`put_chunk` for each, in order."""
        return [self.put_chunk(chunk) for chunk in chunks]

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

        `repair` stores them even when the hash is present: the place on disk is known to be damaged.
        """
        try:
            plain = _check_foreign(kind, digest, codec, payload, size_bytes)
            level = nodes.level_of(kind, plain)
        except (DamagedData, InvalidArgument) as exc:
            raise PeerProtocol("the peer sent an extent that fails its checks", f"{exc.message} {exc.detail}") from exc
        with self.lock:
            if self._touch(digest) and not repair:
                return
            try:
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
        return [loc is not None or digest == ZERO_HASH for digest, loc in zip(digests, found, strict=True)]

    def flush(self) -> None:
        """Egroups durable, then the index: what was put before is visible when this returns. Raises NoSpace (try
        again), StoreFrozen.
        """
        with self.lock:
            self._check_writable()
            try:
                self._appender.sync()
            except StoreFrozen as exc:
                self.frozen = exc.message
                raise
            meta = () if self.index.meta("store_id") == self.store_id else (("store_id", self.store_id),)
            for batch in in_batches(list(self._pending.items())):
                puts = [(digest, location._replace(stamp=self.epoch)) for digest, location in batch]
                self.commit_index(Change(puts=puts, meta=meta))
                for digest, _ in batch:
                    del self._pending[digest]
            touched = list(self._touched)
            for at in range(0, len(touched), 2048):
                self.has(touched[at : at + 2048])
            self._touched.clear()

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
        if freed is None:
            return sum(self._punch(batch) for batch in iter(lambda: self.index.freed(_PUNCH_BATCH), []))
        # Only what the index still owes: a rebuild meanwhile may have brought an extent back to life.
        ranges = sorted(set(self.index.freed()).intersection(freed))
        return sum(self._punch(ranges[at : at + _PUNCH_BATCH]) for at in range(0, len(ranges), _PUNCH_BATCH))

    def _punch(self, batch: Sequence[Freed]) -> int:
        done = sum(item.length for item in batch)
        with self.lock:  # nobody appends meanwhile: a page at the end of a range is looked at before it goes
            for item in batch:
                self.files.punch(item)
            total = self._returned_bytes() + done
            self.commit_index(Change(returned=batch, meta=(("returned_bytes", total.to_bytes(8, "little")),)))
        return done

    def cut(self, epoch: int) -> int:
        """Stamps from here on are kept: `epoch`, or the one of the oldest ingest that is open or was when the sweep
        began.
        One that ended since may have named its root after the live hashes were collected.
        """
        return min([epoch, self._floor, *self._holds.values()])

    def is_claimed(self, digest: bytes) -> bool:
        """Whether a put since the last flush relies on it. Call with `lock` held."""
        return digest in self._touched or digest in self._pending

    # --- the rest

    def stats(self) -> StoreStats:
        size = sum(self.files.file(egroup).size() for egroup in self.files.numbers())
        freed = sum(item.length for item in self.index.freed())
        return StoreStats(self.index.count(), len(self._pending), size - self._returned_bytes(), freed, self.epoch)

    def _returned_bytes(self) -> int:
        return int.from_bytes(self.index.meta("returned_bytes") or b"\0", "little")

    def rebuild(self) -> int:
        """Make the index anew from the egroups; how many extents it has. Nothing may be pending: flush first."""
        with self.lock:
            self._check_writable()
            if self._pending:
                raise InvalidArgument("flush before rebuilding the index")
            self._opened.clear()
            count = rebuild.rebuild_files(self.files, self.index, self.store_id, epoch=self.epoch)
            return count

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
            self.index.commit(change)
        except StoreFrozen as exc:
            self.frozen = exc.message
            raise

    def _touch(self, digest: bytes) -> bool:
        """Whether it is present or pending; if so no sweep deletes it before this ingest ends."""
        self._check_writable()
        return digest in self._touched or self._claim(digest) is not None

    def _claim(self, digest: bytes) -> Location | None:
        location = self._pending.get(digest)
        if location is None:
            location = self.index.get(digest)
            if location is not None:
                self._touched.add(digest)
        return location

    def _check_children(self, kind: int, payload: bytes, base: bytes | None) -> None:
        if kind == Kind.CHUNK:
            return
        if kind != Kind.ROOT and base is not None and self._touch(base):
            missing = nodes.new_children(payload, self.read_node(base))
        else:
            missing = nodes.children(kind, payload)
        want = nodes.expected_children(kind, payload)
        for child in missing:
            found = self._claim(child)
            if found is None:
                raise ef.MissingChild(f"child {child.hex()} of a node of kind {kind} is not stored")
            if (found.kind, found.level) != want:
                raise DamagedData(f"child {child.hex()} has kind {found.kind} level {found.level}, not {want}")

    def _append(self, kind: int, level: int, digest: bytes, codec: int, payload: bytes, size_bytes: int) -> None:
        length = ef.extent_bytes(len(payload))
        try:
            egroup, offset = self._appender.reserve(length)
        except StoreFrozen as exc:
            self.frozen = exc.message
            raise
        header = ef.ExtentHeader(kind, codec, level, size_bytes, len(payload), digest, ef.block_crcs(payload))
        self._appender.append((ef.pack_header(header, self.store_id, egroup, offset), payload))
        self._pending[digest] = Location(egroup, offset, len(payload), size_bytes, kind, codec, level, self.epoch)

    def _locate(self, digest: bytes) -> Location:
        return self._pending.get(digest) or super()._locate(digest)

    def _before_read(self, location: Location) -> None:
        if not self.writable:
            return
        with self.lock:
            if self._appender.unwritten(location.egroup, location.offset):
                self._appender.spill()


def is_zero(data: Buffer) -> bool:
    """Whether all bytes of a chunk are zero; cheap for data that is not."""
    if any(data[:16]):
        return False
    return bytes(data) == _ZEROS[: len(data)]


def _check_foreign(kind: int, digest: bytes, codec: int, payload: bytes, size_bytes: int) -> bytes:
    """Uncompressed bytes of what a peer sent; sizes are compared before anything is decompressed."""
    if kind not in tuple(Kind) or codec not in tuple(Codec):
        raise DamagedData(f"unknown kind {kind} or codec {codec}")
    ef.check_size(kind, size_bytes)
    if len(payload) > size_bytes or (codec == Codec.RAW and len(payload) != size_bytes):
        raise DamagedData(f"{len(payload)} bytes were sent for an extent of {size_bytes}")
    plain = ef.decode(codec, payload, size_bytes)
    if ef.digest_of(kind, plain) != digest:
        raise DamagedData(f"the bytes do not have the hash {digest.hex()}")
    if kind == Kind.CHUNK and is_zero(plain):
        raise DamagedData("a chunk of zeros is a hole and must be sent as one")
    return plain
