# SPDX-License-Identifier: Apache-2.0
"""Hash -> place. A rebuildable cache with one writing process; it is never the authority on what exists."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from errno import EDQUOT, EIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import lmdb

from stargate.errors import DamagedData, NoSpace, Unavailable
from stargate.extents.format import Kind, StoreFrozen
from stargate.units import GiB, MiB

BATCH_KEYS = 2048
"""Keys per write transaction: some 10 ms, so that no reader or writer waits longer."""

MAP_BYTES = 256 * GiB
"""Address space of the index; the file grows only as used (about 3 GB per TiB of unique 64-KiB chunks)."""

ITERATE_KEYS = 8192

FEW_BYTES = 64 * MiB
"""More than one transaction writes: with less free, a write may have been cut short for lack of space."""


class DamagedIndex(Unavailable):
    """It can only be made anew from the extent groups."""


class Location(NamedTuple):
    """Where an extent lies. `stamp` = the sweep epoch in which it was last asked for."""

    egroup: int
    offset: int
    stored_bytes: int
    size_bytes: int
    kind: int
    codec: int
    level: int
    stamp: int

    @property
    def rank(self) -> int:
        """Parents have a higher rank than their children; a sweep deletes from the highest."""
        if self.kind == Kind.ROOT:
            return 256
        return 0 if self.kind == Kind.CHUNK else self.level + 1


class Freed(NamedTuple):
    """A range of an egroup that no hash refers to any more and that is not yet returned to the file system."""

    egroup: int
    offset: int
    length: int


class Change(NamedTuple):
    """One transaction: everything or nothing, durable when `commit` returns."""

    puts: Sequence[tuple[bytes, Location]] = ()
    deletes: Sequence[bytes] = ()
    freed: Sequence[Freed] = ()
    returned: Sequence[Freed] = ()
    meta: Sequence[tuple[str, bytes]] = ()


class Index(Protocol):
    """What the store needs of an index. Reads see committed transactions only."""

    def get(self, digest: bytes) -> Location | None: ...

    def get_many(self, digests: Sequence[bytes]) -> list[Location | None]: ...

    def commit(self, change: Change) -> None: ...

    def items(self, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[bytes, Location]]: ...

    def nodes(self, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[bytes, Location]]: ...

    def freed(self, limit: int | None = None) -> list[Freed]: ...

    def meta(self, name: str) -> bytes | None: ...

    def count(self) -> int: ...

    def clear(self) -> None: ...

    def close(self) -> None: ...


class MemoryIndex:
    """Index in a dict, for tests and the simulator. Share one object between a writing and a reading store."""

    def __init__(self) -> None:
        self._extents: dict[bytes, Location] = {}
        self._freed: set[Freed] = set()
        self._meta: dict[str, bytes] = {}

    def get(self, digest: bytes) -> Location | None:
        return self._extents.get(digest)

    def get_many(self, digests: Sequence[bytes]) -> list[Location | None]:
        return [self._extents.get(d) for d in digests]

    def commit(self, change: Change) -> None:
        self._extents.update(change.puts)
        for digest in change.deletes:
            self._extents.pop(digest, None)
        self._freed.update(change.freed)
        self._freed.difference_update(change.returned)
        self._meta.update(change.meta)

    def items(self, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[bytes, Location]]:
        """As `LmdbIndex.items`, but for the order."""
        for digest, location in list(self._extents.items()):
            if digest >= low and (high is None or digest < high):
                yield digest, location

    def nodes(self, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[bytes, Location]]:
        """As `items`, without the chunks."""
        return ((digest, location) for digest, location in self.items(low, high) if location.kind != Kind.CHUNK)

    def freed(self, limit: int | None = None) -> list[Freed]:
        return sorted(self._freed)[:limit]

    def meta(self, name: str) -> bytes | None:
        return self._meta.get(name)

    def count(self) -> int:
        return len(self._extents)

    def clear(self) -> None:
        self._extents.clear()
        self._freed.clear()
        self._meta.clear()

    def close(self) -> None:
        """Nothing to release."""


_VALUE = struct.Struct("<IIIIBBBI")
_KIND_AT = 16
_OWNER = b"owner"
_RANGE = struct.Struct(">II")
_LENGTH = struct.Struct("<I")


@contextmanager
def _reading() -> Iterator[None]:
    """Raises DamagedData for what LMDB says of its pages."""
    try:
        yield
    except lmdb.Error as exc:
        raise DamagedData("the extent index is damaged; rebuild it", str(exc)) from exc


class LmdbIndex:
    """Index in LMDB. Never fork while one is open; one process may open a path once."""

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        """Raises Unavailable when a reader finds no index yet."""
        self._mark = os.urandom(16)
        self._folder = folder = Path(path)
        if not read_only:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._env = lmdb.open(
                str(folder),
                map_size=MAP_BYTES,
                max_dbs=4,
                readahead=False,
                readonly=read_only,
                max_readers=512,
                create=not read_only,
            )
            self._extents = self._env.open_db(b"extents", create=not read_only)
            self._freed = self._env.open_db(b"freed", create=not read_only)
            self._meta = self._env.open_db(b"meta", create=not read_only)
            with self._env.begin(db=self._meta) as txn:
                self._owner = txn.get(_OWNER)
        except (lmdb.InvalidError, lmdb.CorruptedError) as exc:
            raise DamagedIndex(f"the extent index at {folder} is damaged", str(exc)) from exc
        except lmdb.Error as exc:
            raise Unavailable(
                f"the extent index at {folder} cannot be opened; start the store, or delete it to have it rebuilt",
                str(exc),
            ) from exc

    def get(self, digest: bytes) -> Location | None:
        try:
            with self._env.begin(db=self._extents) as txn:
                value = txn.get(digest)
        except lmdb.Error as exc:
            raise DamagedData("the extent index is damaged; rebuild it", str(exc)) from exc
        return None if value is None else Location(*_VALUE.unpack(value))

    def get_many(self, digests: Sequence[bytes]) -> list[Location | None]:
        try:
            with self._env.begin(db=self._extents) as txn:
                values = [txn.get(d) for d in digests]
        except lmdb.Error as exc:
            raise DamagedData("the extent index is damaged; rebuild it", str(exc)) from exc
        return [None if v is None else Location(*_VALUE.unpack(v)) for v in values]

    def commit(self, change: Change) -> None:
        """Raises NoSpace (nothing happened) or StoreFrozen."""
        try:
            with self._env.begin(write=True) as txn:
                self._check_owner(txn)
                self._apply(txn, change)
            self._owner = self._mark
        except lmdb.MapFullError as exc:
            raise NoSpace("the extent index has reached its largest size", str(exc)) from exc
        except lmdb.DiskError as exc:
            raise NoSpace("no space for the extent index", str(exc)) from exc
        except lmdb.Error as exc:
            if self._found_no_space(str(exc)):
                raise NoSpace("no space for the extent index", str(exc)) from exc
            raise StoreFrozen(
                "the extent index cannot be written; restart the store, it is rebuilt when damaged", str(exc)
            ) from exc

    def _found_no_space(self, error: str) -> bool:
        """LMDB has no error of its own for a full quota, and calls a write that the last free bytes cut short an I/O
        error. The transaction is undone as a whole either way, and whatever follows writes all its pages anew.
        """
        if os.strerror(EDQUOT) in error:
            return True
        stat = os.statvfs(self._folder)
        return os.strerror(EIO) in error and stat.f_bavail * stat.f_frsize < FEW_BYTES

    def _check_owner(self, txn: lmdb.Transaction) -> None:
        """Whoever commits first after it opened the index owns it from then on. A process before it, which was taken
        for dead, learns that inside its own transaction: there is no moment between the look and the change.
        """
        if txn.get(_OWNER, db=self._meta) != self._owner:
            raise StoreFrozen("another store process has taken over this data folder; this one stops")
        if self._owner != self._mark:
            txn.put(_OWNER, self._mark, db=self._meta)

    def _apply(self, txn: lmdb.Transaction, change: Change) -> None:
        for digest, location in sorted(change.puts):
            txn.put(digest, _VALUE.pack(*location), db=self._extents)
        for digest in sorted(change.deletes):
            txn.delete(digest, db=self._extents)
        for freed in change.freed:
            txn.put(_RANGE.pack(freed.egroup, freed.offset), _LENGTH.pack(freed.length), db=self._freed)
        for freed in change.returned:
            txn.delete(_RANGE.pack(freed.egroup, freed.offset), db=self._freed)
        for name, value in change.meta:
            txn.put(name.encode(), value, db=self._meta)

    def items(self, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[bytes, Location]]:
        """Entries with low <= hash < high (None: to the end) in hash order, in short read transactions: one written
        meanwhile may or may not appear.
        """
        start = low
        while batch := self._page(start):
            for digest, value in batch:
                if high is not None and digest >= high:
                    return
                yield digest, Location(*_VALUE.unpack(value))
            start = batch[-1][0] + b"\0"

    def nodes(self, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[bytes, Location]]:
        """As `items`, without the chunks, ten times as fast: these are few."""
        start: bytes | None = low
        while start is not None:
            found, start = self._node_page(start)
            for digest, value in found:
                if high is not None and digest >= high:
                    return
                yield digest, Location(*_VALUE.unpack(value))
            if high is not None and start is not None and start >= high:
                return

    def _node_page(self, start: bytes) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        """(nodes among the next entries, where to go on or None)."""
        found: list[tuple[bytes, bytes]] = []
        with _reading(), self._env.begin(db=self._extents) as txn, txn.cursor() as cursor:
            if not cursor.set_range(start):
                return found, None
            key = start
            for key, value in islice(cursor, ITERATE_KEYS):
                if value[_KIND_AT]:
                    found.append((key, value))
            return found, key + b"\0"

    def _page(self, start: bytes) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        with _reading(), self._env.begin(db=self._extents) as txn, txn.cursor() as cursor:
            if cursor.set_range(start):
                for key, value in cursor:
                    found.append((key, value))
                    if len(found) == ITERATE_KEYS:
                        break
        return found

    def freed(self, limit: int | None = None) -> list[Freed]:
        """The first `limit` (None = all) ranges that are owed to the file system, by place."""
        with _reading(), self._env.begin(db=self._freed) as txn, txn.cursor() as cursor:
            return [Freed(*_RANGE.unpack(key), *_LENGTH.unpack(value)) for key, value in islice(cursor, limit)]

    def meta(self, name: str) -> bytes | None:
        with _reading(), self._env.begin(db=self._meta) as txn:
            found: bytes | None = txn.get(name.encode())
            return found

    def count(self) -> int:
        with _reading(), self._env.begin(db=self._extents) as txn:
            return int(txn.stat(self._extents)["entries"])

    def clear(self) -> None:
        """Empty the index. Without its identity it asks to be rebuilt at the next open."""
        with self._env.begin(write=True) as txn:
            self._check_owner(txn)
            for db in (self._meta, self._freed, self._extents):
                txn.drop(db, delete=False)
        self._owner = None

    def close(self) -> None:
        self._env.close()


def in_batches(puts: Iterable[tuple[bytes, Location]]) -> Iterator[list[tuple[bytes, Location]]]:
    """Split in transactions short enough for everybody else; the order (children first) is kept between them."""
    batch: list[tuple[bytes, Location]] = []
    for item in puts:
        batch.append(item)
        if len(batch) == BATCH_KEYS:
            yield batch
            batch = []
    if batch:
        yield batch
