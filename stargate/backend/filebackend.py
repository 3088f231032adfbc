# SPDX-License-Identifier: Apache-2.0
"""A deliberately dumb backend: one sparse file per version, every version a full copy. It keeps the protocol honest."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence

from blake3 import blake3

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
from stargate.backend.state import Stage, State, StateFile
from stargate.errors import InvalidArgument, NoSpace, NotFound
from stargate.extents.nodes import TreeFormat
from stargate.fs.disk import Disk, File
from stargate.units import BLOCK_BYTES, MiB

FOLDER = "versions"
STATE_PATH = "versions.json"
_STEP = MiB


class FileBackend(RecordedBackend):
    """Versions in `versions/` of a disk. One thread at a time; nothing is checksummed."""

    capabilities = Capabilities(
        content_addressed=False, atomic_group=True, cheap_diff=False, shared=False, verified=False
    )

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__(StateFile(disk, STATE_PATH))
        self._applied: dict[str, tuple[int, int]] = {}
        self._covered = 0

    def open(self, token: int) -> None:
        """What was applied and not committed before is removed."""
        self._disk.mkdir(FOLDER)
        self._file.take(token)
        self._covered = self._file.state.covered
        for name in self._disk.list(FOLDER):
            if name not in self._file.state.versions:
                self._disk.unlink(f"{FOLDER}/{name}")

    def close(self) -> None:
        self._applied.clear()

    def info(self, version: VersionId) -> VersionInfo:
        found = self._applied.get(version.hex()) or self._file.state.versions.get(version.hex())
        if found is None:
            raise NotFound(f"there is no version {version.hex()}")
        return VersionInfo(*found)

    def read(self, version: VersionId, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        check_ranges(ranges, self.info(version).size_bytes)
        file = self._disk.open(f"{FOLDER}/{version.hex()}", read_only=True)
        try:
            return [file.pread(length, offset).ljust(length, b"\0") for offset, length in ranges]
        finally:
            file.close()

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
        self._covered = max(self._covered, position)
        return version

    def _make_durable(self) -> None:
        self.commit()

    def commit(self) -> int:
        def edit(state: State) -> None:
            state.covered = max(state.covered, self._covered)
            state.versions.update(self._applied)

        self._disk.sync_dir(FOLDER)
        self._file.change(edit)
        self._applied.clear()
        return self._file.state.covered

    def changed_ranges(self, old: VersionId | None, new: VersionId) -> Iterator[tuple[int, int]]:
        step = self.info(new).chunk_bytes
        end = max(self.info(version).size_bytes for version in (old, new) if version is not None)
        for offset in range(0, end, step):
            if self._part(old, offset, step) != self._part(new, offset, step):
                yield offset, min(step, -(-end // BLOCK_BYTES) * BLOCK_BYTES - offset)

    def stage(self, key: str, base: VersionId | None, size_bytes: int, chunk_bytes: int) -> None:
        self._file.load()
        if key not in self._file.state.stages:
            self._set_stage(key, self._apply(base, size_bytes, chunk_bytes, [], ()), size_bytes, chunk_bytes)

    def stage_apply(
        self, key: str, changes: Iterable[ChunkChange], *, zero_ranges: Iterable[tuple[int, int]] = ()
    ) -> None:
        stage = self._file.stage(key)
        base = bytes.fromhex(stage.version)
        version = self._apply(base, stage.size_bytes, stage.chunk_bytes, changes, zero_ranges)
        self._set_stage(key, version, stage.size_bytes, stage.chunk_bytes)

    def collect(self, live: Iterable[VersionId]) -> int:
        self.commit()
        keep = {version.hex() for version in {*live, *self._file.state.kept()}}
        gone = [name for name in self._file.state.versions if name not in keep]

        def edit(state: State) -> None:
            for name in gone:
                del state.versions[name]

        self._file.change(edit)
        before = self._disk.free_bytes()
        for name in gone:
            self._disk.unlink(f"{FOLDER}/{name}")
        return max(0, self._disk.free_bytes() - before)

    def usage(self) -> Usage:
        stored = sum(size for size, _ in {**self._file.state.versions, **self._applied}.values())
        return Usage(stored, self._disk.free_bytes())

    def health(self) -> Health:
        present = set(self._disk.list(FOLDER))
        missing = [name for name in self._file.state.versions if name not in present]
        return Health(tuple(f"the file of version {name} is missing" for name in missing))

    def _part(self, version: VersionId | None, offset: int, length: int) -> bytes:
        """Bytes of a version, zeros behind its end."""
        size = 0 if version is None else -(-self.info(version).size_bytes // BLOCK_BYTES) * BLOCK_BYTES
        inside = min(length, size - offset)
        if version is None or inside <= 0:
            return bytes(length)
        return self.read(version, [(offset, inside)])[0].ljust(length, b"\0")

    def _set_stage(self, key: str, version: VersionId, size_bytes: int, chunk_bytes: int) -> None:
        self.commit()
        self._file.set_stage(key, Stage(version.hex(), size_bytes, chunk_bytes))

    def _apply(
        self,
        base: VersionId | None,
        size_bytes: int,
        chunk_bytes: int,
        changes: Iterable[ChunkChange],
        zero_ranges: Iterable[tuple[int, int]],
    ) -> VersionId:
        fmt = TreeFormat(size_bytes, chunk_bytes)
        if base is not None and self.info(base).chunk_bytes != chunk_bytes:
            raise InvalidArgument("a version has the chunk size of its base")
        work = [] if base is None else cut_chunk(self, base, size_bytes)
        for first, count in zero_ranges:
            work += [ChunkChange(index) for index in range(first, min(first + count, fmt.chunk_count))]
        last = -1
        for change in changes:
            if not last < change.chunk < fmt.chunk_count:
                raise InvalidArgument("changes must be sorted by chunk, each chunk once, inside the version")
            last = change.chunk
            work.append(change)
        return self._write(base, fmt, work)

    def _write(self, base: VersionId | None, fmt: TreeFormat, work: list[ChunkChange]) -> VersionId:
        temp = f"{FOLDER}/new"
        name = blake3(repr((base, fmt.size_bytes, fmt.chunk_bytes)).encode())
        file = self._disk.open(temp, create=True)
        try:
            file.truncate(0)
            file.truncate(-(-fmt.size_bytes // BLOCK_BYTES) * BLOCK_BYTES)
            if base is not None:
                self._copy(base, file, fmt.size_bytes)
            for change in work:
                name.update(_put(file, change, fmt))
            file.truncate(-(-fmt.size_bytes // BLOCK_BYTES) * BLOCK_BYTES)
            file.fdatasync()
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise
            raise NoSpace("no space for a version") from exc
        finally:
            file.close()
        version = name.digest()
        self._disk.rename(temp, f"{FOLDER}/{version.hex()}")
        if version.hex() not in self._file.state.versions:
            self._applied[version.hex()] = (fmt.size_bytes, fmt.chunk_bytes)
        return version

    def _copy(self, base: VersionId, file: File, size_bytes: int) -> None:
        end = min(size_bytes, self.info(base).size_bytes)
        for offset in range(0, end, _STEP):
            data = self._part(base, offset, min(_STEP, -(-(end - offset) // BLOCK_BYTES) * BLOCK_BYTES))
            if any(data):
                file.pwritev([data], offset)


def _put(file: File, change: ChunkChange, fmt: TreeFormat) -> bytes:
    """Write one change; what it adds to the name of the version."""
    if change.digest is not None:
        raise InvalidArgument("this backend knows no hashes; pass the bytes")
    check_change(change, fmt.size_bytes, fmt.chunk_bytes)
    data = bytes(fmt.chunk_bytes) if change.data is None else bytes(change.data)
    file.pwritev([data], change.chunk * fmt.chunk_bytes)
    return change.chunk.to_bytes(8, "little") + blake3(data).digest()
