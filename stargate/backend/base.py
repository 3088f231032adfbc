# SPDX-License-Identifier: Apache-2.0
"""`BlockBackend`: keeps the bytes of versions. Log, hot tier, catalog and manifests are ours and lie above it.

A version never changes. Its id is opaque bytes, made by `apply`; it is durable when `commit` has returned.
Offsets and lengths are bytes, multiples of 4 KiB; a version reads as zeros up to the next 4 KiB behind its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from stargate.errors import InvalidArgument
from stargate.fs.disk import Buffer
from stargate.units import BLOCK_BYTES

VersionId = bytes


class ChunkChange(NamedTuple):
    """New content of one chunk: all its bytes, or a hash that the backend knows (content-addressed ones only), or
    zeros.
    """

    chunk: int
    data: Buffer | None = None
    digest: bytes | None = None

    @property
    def is_zero(self) -> bool:
        return self.data is None and self.digest is None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a caller may rely on. `verified`: reads are checksummed. `cheap_diff`: cost of a diff follows the change."""

    content_addressed: bool
    atomic_group: bool
    cheap_diff: bool
    shared: bool
    verified: bool


class VersionInfo(NamedTuple):
    size_bytes: int
    chunk_bytes: int


class Usage(NamedTuple):
    """`stored_bytes` on the medium, holes not counted; `free_bytes` of the file system."""

    stored_bytes: int
    free_bytes: int


class Health(NamedTuple):
    """`problems` are sentences for the operator; empty means well."""

    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


class BlockBackend(Protocol):
    """Errors of all: NotFound (version, stage, group), InvalidArgument, StaleToken, NoSpace, DamagedData."""

    capabilities: Capabilities

    def open(self, token: int) -> None:
        """Take the right to change things; smaller tokens are refused from now on. Raises StaleToken. Reading needs no
        token.
        """

    def close(self) -> None: ...

    def info(self, version: VersionId) -> VersionInfo: ...

    def read(self, version: VersionId, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each (offset, length)."""

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
        """A new version: `base` (None = zeros) resized, then zero ranges (first chunk, count), then changes sorted by
        chunk.

        All that the log holds up to `position` is in it. The same call again gives the same version. Bytes behind the
        size in the last chunk must be zero; a change of size into the middle of a chunk zeroes the rest of it.
        """

    def commit(self) -> int:
        """Make all applied versions durable; the highest position they cover. Raises StaleToken when fenced off
        meanwhile.
        """

    def clone(self, version: VersionId) -> VersionId:
        """A version of the same content that lives on its own."""

    def resize(self, version: VersionId, size_bytes: int, position: int) -> VersionId: ...

    def zero(self, version: VersionId, ranges: Sequence[tuple[int, int]], position: int) -> VersionId:
        """The version with these (offset, length) zeroed."""

    def changed_ranges(self, old: VersionId | None, new: VersionId) -> Iterator[tuple[int, int]]:
        """(offset, length) ascending, disjoint, within the larger of both; a superset of what differs. None = against
        zeros.
        """

    def group_snapshot(self, name: str, versions: Sequence[VersionId], position: int) -> None:
        """Durably keep several versions as one point; all or none. Repeating it is fine, another content under the name
        is not.
        """

    def group(self, name: str) -> tuple[int, list[VersionId]]:
        """(position, versions)."""

    def drop_group(self, name: str) -> None: ...

    def stage(self, key: str, base: VersionId | None, size_bytes: int, chunk_bytes: int) -> None:
        """Begin, or go on with, an incoming version: durable, resumable, not a version until `publish`."""

    def stage_apply(
        self, key: str, changes: Iterable[ChunkChange], *, zero_ranges: Iterable[tuple[int, int]] = ()
    ) -> None: ...

    def publish(self, key: str) -> VersionId:
        """End a stage: its version, durable and pinned by the owner `stage:<key>`. Again after a crash: the same
        answer.
        """

    def abort(self, key: str) -> None: ...

    def pin(self, version: VersionId, owner: str) -> None:
        """Durably keep a version from `collect`, whatever its caller believes to be live."""

    def unpin(self, version: VersionId, owner: str) -> None: ...

    def collect(self, live: Iterable[VersionId]) -> int:
        """Delete versions that are not live, pinned, grouped or staged; bytes returned to the file system. No reader
        may be on them.
        """

    def usage(self) -> Usage: ...

    def health(self) -> Health: ...


def check_ranges(ranges: Sequence[tuple[int, int]], size_bytes: int) -> None:
    """Raises InvalidArgument unless every range is aligned and inside the size, padded to 4 KiB."""
    end = -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES
    for offset, length in ranges:
        if offset % BLOCK_BYTES or length % BLOCK_BYTES or offset < 0 or length <= 0 or offset + length > end:
            raise InvalidArgument(
                f"range {offset}+{length} is not aligned to 4 KiB or lies outside of {size_bytes} bytes"
            )


def check_change(change: ChunkChange, size_bytes: int, chunk_bytes: int) -> None:
    """Raises InvalidArgument for a change that would make content depend on bytes nobody can read."""
    if change.data is None:
        return
    if len(change.data) != chunk_bytes:
        raise InvalidArgument(f"a change of chunk {change.chunk} has {len(change.data)} bytes instead of {chunk_bytes}")
    inside = size_bytes - change.chunk * chunk_bytes
    if inside < chunk_bytes and any(memoryview(change.data)[max(inside, 0) :]):
        raise InvalidArgument(f"chunk {change.chunk} has bytes behind the end of the version")


def zeroing(
    backend: BlockBackend, version: VersionId, ranges: Sequence[tuple[int, int]]
) -> tuple[list[ChunkChange], list[tuple[int, int]]]:
    """Changes and zero ranges that zero these bytes: whole chunks as ranges, edges read and written anew."""
    size_bytes, chunk_bytes = backend.info(version)
    check_ranges(ranges, size_bytes)
    edges: dict[int, bytearray] = {}
    whole: list[tuple[int, int]] = []
    for offset, length in ranges:
        end = offset + length
        first, last = -(-offset // chunk_bytes), end // chunk_bytes
        if end >= size_bytes:
            last = -(-size_bytes // chunk_bytes)
        if first < last:
            whole.append((first, last - first))
        for index in (i for i in {offset // chunk_bytes, (end - 1) // chunk_bytes} if not first <= i < last):
            if index not in edges:
                edges[index] = bytearray(read_chunk(backend, version, index))
            data = edges[index]
            start = index * chunk_bytes
            low, high = max(offset, start) - start, min(end, start + chunk_bytes) - start
            data[low:high] = bytes(high - low)
    kept = [i for i in sorted(edges) if not any(first <= i < first + count for first, count in whole)]
    return [ChunkChange(index, bytes(edges[index])) for index in kept], whole


def read_chunk(backend: BlockBackend, version: VersionId, index: int) -> bytes:
    """A whole chunk, padded with zeros behind the end of the version."""
    size_bytes, chunk_bytes = backend.info(version)
    end = -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES
    length = min(chunk_bytes, end - index * chunk_bytes)
    return backend.read(version, [(index * chunk_bytes, length)])[0].ljust(chunk_bytes, b"\0")


def cut_chunk(backend: BlockBackend, version: VersionId, size_bytes: int) -> list[ChunkChange]:
    """The chunk that a smaller size cuts, with its rest zeroed; none when the size grows or ends with a chunk."""
    old_bytes, chunk_bytes = backend.info(version)
    inside = size_bytes % chunk_bytes
    if size_bytes >= old_bytes or not inside:
        return []
    index = size_bytes // chunk_bytes
    data = read_chunk(backend, version, index)
    return [ChunkChange(index, data[:inside].ljust(chunk_bytes, b"\0"))]
