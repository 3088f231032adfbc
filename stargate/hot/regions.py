# SPDX-License-Identifier: Apache-2.0
"""Regions: the files of the hot tier. `HotWriter` (the store's drain alone) appends batches, `HotReader` reads blocks.

A batch exists for the world only when the catalog names it, so everything behind a region's last catalogued batch is
free space. A writer holds a lock on each file that it may write to: a store that was taken for dead may come back and
finish a write, so its successor leaves the files that it holds alone and begins others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from errno import EIO
from operator import itemgetter
from threading import Lock

from stargate.catalog.state import BatchRef
from stargate.checksum import block_crcs
from stargate.errors import InvalidArgument, NoSpace, StargateError, Unavailable
from stargate.fs.disk import NO_SPACE, Buffer, Disk, File
from stargate.hot.format import (
    BATCH,
    CHUNK_ENTRY,
    REGION_BYTES,
    REGION_HEADER_BYTES,
    ZERO_ENTRY,
    Block,
    Part,
    Region,
    Window,
    batch_bytes,
    damaged,
    pack_head,
    pack_region,
    parse_region,
)
from stargate.hot.tables import read_batch_table as read_batch_table
from stargate.hot.tables import region_path
from stargate.units import BLOCK_BYTES

_ROOM_MIN_BYTES = 256 * 1024
"""A region with less room than this is full: a batch is not cut into crumbs."""
_OPEN_FILES_MAX = 256


def _region_numbers(disk: Disk, path: str) -> list[int]:
    names = [name[2:] for name in disk.list(path) if name.startswith("r-")]
    return sorted(int(name) for name in names if name.isdigit() and len(name) == 8)


class HotWriter:
    """Appends batches. `append` and `sync` belong to one thread; `regions` and `free` may be called from another.

    A window is what is appended after a `begin`; its regions cannot be freed before the next one begins, for only then
    it is sure that the window is in the catalog, or never will be.
    """

    def __init__(self, disk: Disk, path: str, region_bytes: int) -> None:
        self._disk = disk
        self._path = path
        self._region_bytes = region_bytes
        self._guard = Lock()
        self._poison: str | None = None
        self._files: dict[int, File] = {}
        self._headers: dict[int, Region | None] = {}
        self._ends: dict[int, int] = {}
        self._free: list[int] = []
        self._foreign: set[int] = set()
        """Regions whose files another process holds; they are read, and tried again when they are to be freed."""
        self._window: set[int] = set()
        self._before: tuple[dict[int, int], int | None] = {}, None
        self._unsynced: set[int] = set()
        self._current: int | None = None

    @classmethod
    def open(
        cls,
        disk: Disk,
        path: str,
        *,
        live: Iterable[BatchRef],
        region_bytes: int = REGION_BYTES,
        readers: bool = False,
    ) -> HotWriter:
        """Continue after the `live` batches (all that the catalog names); regions without any are free. With `readers`,
        who may not know yet that a batch is gone, they are so only after `free`, and nothing of a region is written
        anew before.

        `region_bytes` is how far a region is filled. A live region that is missing or unreadable is left alone: only
        what reads its batches fails.
        """
        if not REGION_HEADER_BYTES + 16 * BLOCK_BYTES <= region_bytes <= REGION_BYTES:
            raise InvalidArgument(f"a hot region has 68 KiB to {REGION_BYTES} bytes")
        disk.mkdir(path)
        writer = cls(disk, path, region_bytes)
        for ref in live:
            writer._ends[ref.region] = max(writer._ends.get(ref.region, 0), ref.offset + ref.length)
        present = _region_numbers(disk, path)
        for region in present:
            writer._adopt(region)
        whole = [r for r in writer._ends if writer._headers.get(r) is not None and r not in writer._foreign]
        if whole:
            writer._current = min(whole, key=lambda region: writer._ends[region])
        if readers:
            writer._keep_what_was_written()
        return writer

    def _keep_what_was_written(self) -> None:
        """A batch that died while a reader was behind may lie behind the last live one: go on at the file's end."""
        for region, end in self._ends.items():
            size = self._files[region].size() if region in self._files else 0
            self._ends[region] = max(end, size + -size % BLOCK_BYTES)
        self._ends.update(dict.fromkeys(self._free, self._region_bytes))
        self._free.clear()

    def _adopt(self, region: int) -> None:
        try:
            file = self._disk.lock(region_path(self._path, region))
        except Unavailable:
            file = self._disk.open(region_path(self._path, region), read_only=True)
            self._foreign.add(region)
        header = parse_region(file.pread(REGION_HEADER_BYTES, 0), region)
        self._files[region] = file
        self._headers[region] = header
        if region in self._foreign:
            self._ends.setdefault(region, self._region_bytes)  # in use, until `free` finds that it is not
        elif region not in self._ends:
            self._free.append(region)

    def _is_ours(self, region: int) -> bool:
        """Whether this process alone may write to the region's file; asks again where another one held it."""
        if region not in self._foreign:
            return True
        try:
            file = self._disk.lock(region_path(self._path, region))
        except Unavailable:
            return False
        self._files[region].close()
        self._files[region] = file
        self._headers[region] = parse_region(file.pread(REGION_HEADER_BYTES, 0), region)  # it may have begun it anew
        self._foreign.discard(region)
        return True

    # -- appending

    def begin(self) -> None:
        """A window begins. What was appended before is in the catalog or never will be; no `rollback` takes it back."""
        with self._guard:
            self._window.clear()
            self._before = dict(self._ends), self._current

    def append(
        self,
        epoch: str,
        from_position: int,
        to_position: int,
        zeros: Sequence[tuple[int, int]],
        chunk_refs: Sequence[tuple[int, bytes]],
        blocks: Sequence[Block],
    ) -> list[BatchRef]:
        """Write one epoch's share of a drain window, in as many batches as regions need; nothing is durable before
        `sync`.

        The refs are to be applied in their order. Raises NoSpace (nothing lost, append again later), InvalidArgument,
        or
        Unavailable when an earlier write failed.
        """
        self._check()
        if any(len(data) != BLOCK_BYTES for _, _, _, data in blocks):
            raise InvalidArgument("the hot tier takes whole 4-KiB blocks only")
        rest = Part(list(zeros), list(chunk_refs), sorted(blocks, key=itemgetter(0)))
        window = Window(epoch, from_position, to_position)
        refs: list[BatchRef] = []
        while rest.zeros or rest.chunks or rest.blocks:
            region = self._region_with_room(rest.size)
            part, rest = _cut(rest, self._region_bytes - self._ends[region])
            refs.append(self._write(region, window, part))
        return refs

    def _region_with_room(self, wanted: int) -> int:
        current = self._current
        if current is not None:
            room = self._region_bytes - self._ends[current]
            if room >= wanted or room >= min(_ROOM_MIN_BYTES, self._region_bytes // 4):
                with self._guard:
                    self._window.add(current)
                return current
        with self._guard:
            region = self._free.pop(0) if self._free else max([0, *self._files, *self._ends]) + 1
            self._window.add(region)
        try:
            header = self._begin(region)
        except Unavailable:  # another process began this file just now
            with self._guard:
                self._window.discard(region)
            self._adopt(region)
            return self._region_with_room(wanted)
        except OSError as exc:
            with self._guard:
                self._free.append(region)
            raise self._failed(exc) from exc
        with self._guard:
            self._headers[region] = header
            self._ends[region] = REGION_HEADER_BYTES
            self._current = region
        return region

    def _begin(self, region: int) -> Region:
        """Put a region under a new incarnation, making its file if need be. Durable before any batch follows."""
        if region not in self._files:
            self._files[region] = self._disk.lock(region_path(self._path, region))
        old = self._headers.get(region)
        # One that lost its header was used as often as any other, as far as anybody knows.
        used = old or max((h for h in self._headers.values() if h is not None), key=_uses, default=None)
        header = Region(region, 1 if used is None else used.incarnation + 1)
        _whole(self._files[region], [pack_region(header).ljust(REGION_HEADER_BYTES, b"\0")], 0)
        self._files[region].fdatasync()
        self._disk.sync_dir(self._path)
        return header

    def _write(self, region: int, window: Window, part: Part) -> BatchRef:
        header = self._headers[region]
        if header is None:
            raise damaged(region, 0, "the header is unreadable")
        ref = BatchRef(region, self._ends[region], part.size)
        head = pack_head(header, window, part, ref.offset)
        buffers: list[Buffer] = [head, *(data for _, _, _, data in part.blocks), head]
        self._unsynced.add(region)
        try:
            _whole(self._files[region], buffers, ref.offset)
        except OSError as exc:
            raise self._failed(exc) from exc
        self._ends[region] += ref.length
        return ref

    def sync(self) -> None:
        """Make all appended batches durable.

        After a failure they must not be catalogued, and the writer takes nothing more.
        """
        self._check()
        try:
            for region in sorted(self._unsynced):
                self._files[region].fdatasync()
        except OSError as exc:
            self._poison = str(exc)
            raise self._failed(exc) from exc
        self._unsynced.clear()

    def rollback(self) -> None:
        """The window will not be in the catalog: what was appended since `begin` is free space again. Without this each
        try on a full disk would leave another piece of a window behind.
        """
        with self._guard:
            ends, current = self._before
            self._current = current if current in self._ends else None  # the window had left it, so it could be freed
            for region in self._window.intersection(self._ends):  # one that could not be begun is free already
                self._ends[region] = ends.get(region, REGION_HEADER_BYTES)
        self._unsynced.clear()

    def _check(self) -> None:
        if self._poison is not None:
            raise Unavailable("the hot tier takes nothing more until the store restarts: " + self._poison)

    def _failed(self, exc: OSError) -> StargateError:
        if exc.errno in NO_SPACE:
            return NoSpace("the disk is full: drained blocks cannot be stored; free space on the site's data folder")
        self._poison = str(exc)
        return Unavailable(f"the hot tier cannot be written ({exc}); check the disk, then restart the store")

    # -- regions

    def regions(self) -> set[int]:
        """The regions in use that `free` would take: not the one being filled, nor any of the present window."""
        with self._guard:
            return {region for region in self._ends if not self._busy(region)}

    def _busy(self, region: int) -> bool:
        return region == self._current or region in self._window

    def free(self, region: int) -> bool:
        """Let `region` be used again; the caller knows that neither the catalog nor a reader needs a batch in it.

        False: not now, the region is being written to; ask again later.
        """
        with self._guard:
            if region not in self._ends or self._busy(region) or not self._is_ours(region):
                return False
            del self._ends[region]
            self._free.append(region)
            return True

    def close(self) -> None:
        self._poison = self._poison or "it is closed"
        for file in self._files.values():
            file.close()
        self._files.clear()


def _uses(header: Region) -> int:
    return header.incarnation


def _whole(file: File, buffers: Sequence[Buffer], offset: int) -> None:
    if file.pwritev(buffers, offset) != sum(len(buffer) for buffer in buffers):
        raise OSError(EIO, "short write")


def _cut(rest: Part, room: int) -> tuple[Part, Part]:
    """The most of `rest` that fits into `room` bytes, in the order in which it is to be applied, and what remains."""
    if rest.size <= room:
        return rest, Part([], [], [])
    page_room = room - room % BLOCK_BYTES
    head_room = page_room // 2 // BLOCK_BYTES * BLOCK_BYTES
    zeros = min(len(rest.zeros), (head_room - BATCH.size) // ZERO_ENTRY.size)
    left = head_room - BATCH.size - zeros * ZERO_ENTRY.size
    chunks = min(len(rest.chunks), left // CHUNK_ENTRY.size) if zeros == len(rest.zeros) else 0
    blocks = 0
    if zeros == len(rest.zeros) and chunks == len(rest.chunks):
        low, high = 0, len(rest.blocks)
        while low < high:
            middle = (low + high + 1) // 2
            if batch_bytes(zeros, chunks, middle) <= page_room:
                low = middle
            else:
                high = middle - 1
        blocks = low
    return (
        Part(rest.zeros[:zeros], rest.chunks[:chunks], rest.blocks[:blocks]),
        Part(rest.zeros[zeros:], rest.chunks[chunks:], rest.blocks[blocks:]),
    )


class HotReader:
    """Reads blocks by position, each verified.

    For one thread: the files it keeps open are bounded by closing the oldest.
    """

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path
        self._files: dict[int, File] = {}

    def _file(self, region: int) -> File:
        file = self._files.get(region)
        if file is None:
            if len(self._files) >= _OPEN_FILES_MAX:
                self._files.pop(next(iter(self._files))).close()
            try:
                file = self._disk.open(region_path(self._path, region), read_only=True)
            except FileNotFoundError as exc:
                raise damaged(region, 0, "the file is missing") from exc
            self._files[region] = file
        return file

    def read(self, position: int, length: int, crcs: Sequence[int]) -> bytes:
        """`length` bytes of adjacent blocks from `position`, each against its checksum. Raises DamagedData."""
        region, offset = divmod(position, REGION_BYTES)
        data = self._file(region).pread(length, offset)
        if len(data) != length or length != len(crcs) * BLOCK_BYTES:
            raise damaged(region, offset, "the blocks are cut short")
        found = block_crcs(data)
        if found != tuple(crcs):
            number = next(n for n, (is_, should) in enumerate(zip(found, crcs, strict=True)) if is_ != should)
            raise damaged(region, offset + number * BLOCK_BYTES, "the block fails its checksum")
        return data

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
