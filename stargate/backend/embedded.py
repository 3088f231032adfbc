# SPDX-License-Identifier: Apache-2.0
"""The embedded backend: versions are Merkle trees in the extent store; a version id is its 32-byte root hash."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

from stargate.backend.base import (
    Capabilities,
    ChunkChange,
    Health,
    Usage,
    VersionId,
    VersionInfo,
    check_change,
    check_ranges,
    cut_chunk,
)
from stargate.backend.recorded import RecordedBackend
from stargate.backend.state import Stage, StateFile
from stargate.errors import InvalidArgument, NotFound
from stargate.extents.format import ZERO_HASH, Kind, MissingChild, MissingExtent
from stargate.extents.store import ExtentStore
from stargate.extents.tree import TreeFormat, TreeReader, diff, empty_root, update
from stargate.units import BLOCK_BYTES

STATE_PATH = "backend.json"
_READERS_MAX = 64


class EmbeddedBackend(RecordedBackend):
    """Over a store that the caller opened and closes. Only a writing store can change things. Safe between threads."""

    capabilities = Capabilities(content_addressed=True, atomic_group=True, cheap_diff=True, shared=False, verified=True)

    def __init__(self, store: ExtentStore) -> None:
        self._store = store
        super().__init__(StateFile(store.disk, STATE_PATH))
        self._covered = 0
        self._readers: dict[bytes, TreeReader] = {}
        self._lock = threading.RLock()

    def open(self, token: int) -> None:
        self._file.take(token)
        self._covered = self._file.state.covered

    def close(self) -> None:
        self._readers.clear()

    def info(self, version: VersionId) -> VersionInfo:
        fmt = self._reader(version).format
        return VersionInfo(fmt.size_bytes, fmt.chunk_bytes)

    def read(self, version: VersionId, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        reader = self._reader(version)
        check_ranges(ranges, reader.format.size_bytes)
        return [self._read(reader, offset, length) for offset, length in ranges]

    def apply(
        self,
        base: VersionId | None,
        size_bytes: int,
        chunk_bytes: int,
        changes: Iterable[ChunkChange],
        position: int,
        *,
        zero_ranges: Iterable[tuple[int, int]] = (),
    ) -> VersionId:
        version = self._apply(base, size_bytes, chunk_bytes, changes, zero_ranges)
        with self._lock:
            self._covered = max(self._covered, position)
        return version

    def _make_durable(self) -> None:
        self._store.flush()

    def commit(self) -> int:
        covered = self._covered
        self._store.flush()
        self._file.change(lambda state: setattr(state, "covered", max(state.covered, covered)))
        return self._file.state.covered

    def changed_ranges(self, old: VersionId | None, new: VersionId) -> Iterator[tuple[int, int]]:
        sizes = [self.info(version) for version in (old, new) if version is not None]
        step, end = sizes[-1].chunk_bytes, max(size.size_bytes for size in sizes)
        end = -(-end // BLOCK_BYTES) * BLOCK_BYTES
        start = stop = 0
        for index, _, _ in diff(self._store, old, new):
            if index * step != stop:
                if stop:
                    yield start, stop - start
                start = index * step
            stop = min(end, (index + 1) * step)
        if stop:
            yield start, stop - start

    def stage(self, key: str, base: VersionId | None, size_bytes: int, chunk_bytes: int) -> None:
        self._file.load()
        if key in self._file.state.stages:
            return
        with self._store.hold():
            version = self._apply(base, size_bytes, chunk_bytes, [], ())
            self._store.flush()
            self._file.set_stage(key, Stage(version.hex(), size_bytes, chunk_bytes))

    def stage_apply(
        self, key: str, changes: Iterable[ChunkChange], *, zero_ranges: Iterable[tuple[int, int]] = ()
    ) -> None:
        stage = self._file.stage(key)
        with self._store.hold():
            base = bytes.fromhex(stage.version)
            version = self._apply(base, stage.size_bytes, stage.chunk_bytes, changes, zero_ranges)
            self._store.flush()
            self._file.set_stage(key, Stage(version.hex(), stage.size_bytes, stage.chunk_bytes))

    def collect(self, live: Iterable[VersionId]) -> int:
        self._store.flush()
        epoch = self._store.sweep_begin()
        self._file.load()
        freed = self._store.sweep_delete({*live, *self._file.state.kept()}, epoch)
        with self._lock:
            self._readers.clear()
        self._store.punch(freed)
        return sum(item.length for item in freed)

    def usage(self) -> Usage:
        stats = self._store.stats()
        return Usage(stats.stored_bytes, self._store.disk.free_bytes())

    def health(self) -> Health:
        return Health((self._store.frozen,) if self._store.frozen else ())

    def _reader(self, version: VersionId) -> TreeReader:
        with self._lock:
            reader = self._readers.get(version)
            if reader is None:
                try:
                    if self._store.kind(version) != Kind.ROOT:
                        raise NotFound(f"{version.hex()} is not a version")
                except MissingExtent as exc:
                    raise NotFound(f"there is no version {version.hex()}", exc.message) from exc
                reader = TreeReader(self._store, version)
                while len(self._readers) >= _READERS_MAX:
                    del self._readers[next(iter(self._readers))]
                self._readers[version] = reader
            return reader

    def _read(self, reader: TreeReader, offset: int, length: int) -> bytes:
        step, end = reader.format.chunk_bytes, offset + length
        first = offset // step
        with self._lock:
            digests = reader.chunks(first, (end - 1) // step - first + 1)
        parts = []
        for index, digest in enumerate(digests, first):
            low, high = max(offset, index * step), min(end, (index + 1) * step)
            blocks = (high - low) // BLOCK_BYTES
            parts.append(self._store.read_blocks(digest, (low - index * step) // BLOCK_BYTES, blocks))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _apply(
        self,
        base: VersionId | None,
        size_bytes: int,
        chunk_bytes: int,
        changes: Iterable[ChunkChange],
        zero_ranges: Iterable[tuple[int, int]],
    ) -> VersionId:
        fmt = TreeFormat(size_bytes, chunk_bytes)
        if base is None:
            base = empty_root(self._store, fmt)
        elif self.info(base).chunk_bytes != chunk_bytes:
            raise InvalidArgument("a version has the chunk size of its base")
        cut = [(c.chunk, self._digest(c, fmt)) for c in cut_chunk(self, base, size_bytes)]
        if cut:
            base = update(self._store, base, cut)
        pairs = [(change.chunk, self._digest(change, fmt)) for change in changes]
        try:
            return update(self._store, base, pairs, zero_ranges, size_bytes)
        except MissingChild as exc:
            raise InvalidArgument("a change names a chunk that is not stored", exc.message) from exc

    def _digest(self, change: ChunkChange, fmt: TreeFormat) -> bytes:
        if change.digest is not None:
            return change.digest
        if change.data is None:
            return ZERO_HASH
        check_change(change, fmt.size_bytes, fmt.chunk_bytes)
        return self._store.put_chunk(change.data)
