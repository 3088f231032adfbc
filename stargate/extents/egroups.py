# SPDX-License-Identifier: Apache-2.0
"""Extent-group files: append-only, 256 MiB, `egroups/g-00000001`. A place once written is never written again."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from errno import EIO

from crc32c import crc32c

from stargate.errors import DamagedData, NoSpace, Unavailable
from stargate.extents import format as ef
from stargate.extents.index import Freed
from stargate.fs.disk import NO_SPACE, Buffer, Disk, File
from stargate.units import BLOCK_BYTES, MiB

FOLDER = "egroups"
EGROUP_BYTES = 256 * MiB
SPILL_BYTES = 4 * MiB
"""Appended bytes are held back until this many, then written in one call."""

_NAME = re.compile(r"g-(\d{8})\Z")
_HEAD = struct.Struct("<8sII16s")
_MAGIC = b"PXEGRP01"
_VERSION = 1
HEAD_BYTES = ef.EXTENT_ALIGN
_SCAN_BYTES = 2 * MiB
_HEADER_MAX = ef.HEADER_BYTES + ef.table_bytes(ef.CHUNK_BYTES_MAX)
_ZEROS = bytes(ef.EXTENT_ALIGN)


def path_of(egroup: int) -> str:
    return f"{FOLDER}/g-{egroup:08d}"


def pack_head(egroup: int, store_id: bytes) -> bytes:
    head = _HEAD.pack(_MAGIC, _VERSION, egroup, store_id)
    return (head + struct.pack("<I", crc32c(head))).ljust(HEAD_BYTES, b"\0")


def parse_head(data: bytes, egroup: int) -> bytes:
    """The store id in an egroup's header. Raises DamagedData, Unavailable for a newer format."""
    if len(data) < HEAD_BYTES or struct.unpack_from("<I", data, _HEAD.size)[0] != crc32c(data[: _HEAD.size]):
        raise DamagedData(f"the header of {path_of(egroup)} is damaged")
    magic, version, number, store_id = _HEAD.unpack_from(data)
    if magic != _MAGIC or number != egroup:
        raise DamagedData(f"{path_of(egroup)} is not that extent group")
    if version != _VERSION:
        raise Unavailable(f"{path_of(egroup)} has format {version}; this engine knows {_VERSION}")
    return bytes(store_id)


class EgroupFiles:
    """Reading side. Keeps one descriptor per egroup (4 per GiB): the process raises RLIMIT_NOFILE."""

    def __init__(self, disk: Disk, *, read_only: bool) -> None:
        self.disk = disk
        self._read_only = read_only
        self._files: dict[int, File] = {}
        self._claimed: set[int] = set()

    def numbers(self) -> list[int]:
        if not self.disk.exists(FOLDER):
            return []
        found = (_NAME.match(name) for name in self.disk.list(FOLDER))
        return sorted(int(m.group(1)) for m in found if m)

    def file(self, egroup: int) -> File:
        """Raises DamagedData when the egroup is gone."""
        file = self._files.get(egroup)
        if file is None:
            try:
                file = self.disk.open(path_of(egroup), read_only=self._read_only)
            except FileNotFoundError as exc:
                raise DamagedData(f"{path_of(egroup)} is missing") from exc
            file = self._files.setdefault(egroup, file)
        return file

    def read(self, egroup: int, offset: int, length: int) -> bytes:
        """Exactly `length` bytes. Raises DamagedData when the file ends before or cannot be read."""
        try:
            data = self.file(egroup).pread(length, offset)
        except OSError as exc:
            raise DamagedData(f"{path_of(egroup)} cannot be read at {offset}", str(exc)) from exc
        if len(data) != length:
            raise DamagedData(f"{path_of(egroup)} ends before {offset + length}")
        return data

    def claim(self, egroup: int) -> File | None:
        """The file for appending, by this process alone while it is open; None when another one has it. A store that
        was taken for dead may come back and finish a write: nobody else appends to the files that it holds.
        """
        if egroup in self._claimed:
            return self._files[egroup]
        try:
            file = self.disk.lock(path_of(egroup))
        except Unavailable:
            return None
        file.pass_through()
        before = self._files.get(egroup)
        self._files[egroup] = file
        self._claimed.add(egroup)
        if before is not None:
            before.close()
        return file

    def restore_head(self, egroup: int, store_id: bytes) -> None:
        """Write a damaged header anew, durably; it has one content only."""
        self.file(egroup).pwritev([pack_head(egroup, store_id)], 0)
        self.file(egroup).fdatasync()

    def punch(self, freed: Freed) -> None:
        """Make a hole, as many whole pages as can be: a file system gives back no less.

        Extents do not end at pages. Where the rest of a page holds zeros (padding, an older hole, the end of a
        neighbour's data) a hole changes no byte, so it is taken along.
        """
        file = self.file(freed.egroup)
        start, end = freed.offset, freed.offset + freed.length
        first = start - start % BLOCK_BYTES
        if first < start and not any(file.pread(start - first, first)):
            start = first
        last = min(-(-end // BLOCK_BYTES) * BLOCK_BYTES, file.size())
        if last > end and not any(file.pread(last - end, end)):
            end = last
        file.punch(start, end - start)

    def store_id(self) -> bytes | None:
        """Identity in the headers, or None when no egroup has a readable one. A torn header can only be the last, empty
        egroup.
        """
        for egroup in self.numbers():
            try:
                return parse_head(self.file(egroup).pread(HEAD_BYTES, 0), egroup)
            except DamagedData:
                continue
        return None

    def identity(self, noted: bytes | None, *, in_use: bool) -> bytes:
        """The store's id, made when it is new; `noted` by the index, if at all. Raises DamagedData rather than start a
        new store over unreadable egroups that a root is `in_use` of. Without one they are what a power cut left of the
        first ones: nothing of them was durable yet.
        """
        found = self.store_id() or noted
        if found is None and in_use and any(self.file(number).size() > HEAD_BYTES for number in self.numbers()):
            raise DamagedData(
                "no extent group has a readable header and the index is gone; restore a header from a copy"
            )
        return found or os.urandom(16)

    def scan(self, egroup: int, store_id: bytes) -> Iterator[tuple[int, ef.ExtentHeader]]:
        """Offset and verified header of every extent in the file. Steps over holes, torn tails and damage."""
        file = self.file(egroup)
        end, at = file.size(), HEAD_BYTES
        while at < end:
            found = _header_at(file.pread(_HEADER_MAX, at), at, store_id, egroup)
            if found is None:
                window = file.pread(_SCAN_BYTES, at)
                found = _first_header(window, at, store_id, egroup)
                if found is None:
                    at += max(ef.EXTENT_ALIGN, (len(window) - _HEADER_MAX) & -ef.EXTENT_ALIGN)
                    continue
            offset, header = found
            yield offset, header
            at = ef.aligned(offset + ef.extent_bytes(header.stored_bytes))

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._claimed.clear()


def _header_at(data: bytes, offset: int, store_id: bytes, egroup: int) -> tuple[int, ef.ExtentHeader] | None:
    if not ef.looks_like_header(data):
        return None
    try:
        return offset, ef.parse_header(data, store_id, egroup, offset)
    except DamagedData:
        return None


def _first_header(window: bytes, base: int, store_id: bytes, egroup: int) -> tuple[int, ef.ExtentHeader] | None:
    """The first aligned, verified header in `window`, which starts at file offset `base`."""
    at = window.find(ef.MAGIC)
    while at >= 0:
        if at % ef.EXTENT_ALIGN == 0:
            found = _header_at(window[at : at + _HEADER_MAX], base + at, store_id, egroup)
            if found is not None:
                return found
        at = window.find(ef.MAGIC, at + 1)
    return None


class Appender:
    """Writing side: the only one that appends. Bytes count as stored only after `sync` returned.

    They pass through the kernel's cache: what guests read of them comes back into it, and what a peer sent or a fold
    made is read by nobody for long; keeping it cost a quarter of the processor time of a replication, at either site.
    """

    def __init__(self, files: EgroupFiles, store_id: bytes, egroup_bytes: int = EGROUP_BYTES) -> None:
        self._files = files
        self.store_id = store_id
        self._limit = egroup_bytes
        self._buffers: list[Buffer] = []
        self._buffered = 0
        self._dirty: dict[int, File] = {}
        self._durable: dict[int, int] = {}
        self._new_names = False
        self._file: File | None = None
        numbers = files.numbers()
        self.egroup = numbers[-1] if numbers else 0
        self._end = self._at = self._tail()

    def _tail(self) -> int:
        """Where to go on. Behind a crash the file may end in bytes that no index entry owns: never reused, never
        truncated.
        """
        file = self._files.claim(self.egroup) if self.egroup else None
        if file is None:
            return self._limit
        try:
            parse_head(file.pread(HEAD_BYTES, 0), self.egroup)
        except DamagedData:
            return self._limit
        return ef.aligned(file.size())

    def reserve(self, length: int) -> tuple[int, int]:
        """Egroup and offset of the next extent. Raises NoSpace with nothing changed."""
        if self._buffered >= SPILL_BYTES:
            self.spill()
        if self._end + length > self._limit:
            self.spill()
            self._start(self.egroup + 1)
        return self.egroup, self._end

    def append(self, parts: tuple[Buffer, Buffer]) -> None:
        """Hold back one extent at the place that `reserve` gave."""
        length = len(parts[0]) + len(parts[1])
        padding = ef.aligned(length) - length
        self._buffers.extend(parts)
        if padding:
            self._buffers.append(_ZEROS[:padding])
        self._buffered += length + padding
        self._end += length + padding

    def unwritten(self, egroup: int, offset: int) -> bool:
        return bool(self._buffered) and egroup == self.egroup and offset >= self._at

    def spill(self) -> None:
        """Write what is held back, at its fixed place: after an error the same bytes are tried again. Raises NoSpace,
        StoreFrozen.
        """
        if not self._buffered:
            return
        file = self._file or self._adopt()
        with _writing():
            _whole(file, self._buffers, self._at)
        self._durable.setdefault(self.egroup, self._at)
        self._dirty[self.egroup] = file
        self._at += self._buffered
        self._buffers, self._buffered = [], 0

    def _adopt(self) -> File:
        """Go on in a file that an earlier process began: it may have ended before name and head were durable."""
        file = self._files.file(self.egroup)
        with _writing():
            _whole(file, [pack_head(self.egroup, self.store_id)], 0)
        self._file = file
        self._dirty[self.egroup] = file
        self._new_names = True
        return file

    def sync(self) -> None:
        """All appended bytes and names are durable. A failed fdatasync raises StoreFrozen and must never be tried
        again.
        """
        self.spill()
        try:
            for file in self._dirty.values():
                file.fdatasync()
            if self._new_names:
                self._files.disk.sync_dir(FOLDER)
        except OSError as exc:
            self._cut_back()
            raise ef.StoreFrozen(
                "the extent store could not make its data durable; restart it after checking the disk", str(exc)
            ) from exc
        self._dirty.clear()
        self._durable.clear()
        self._new_names = False

    def _cut_back(self) -> None:
        """After a failed fdatasync the page cache may show bytes that the disk lacks: a later rebuild must not find
        them there.
        """
        for egroup, file in self._dirty.items():
            with suppress(OSError):
                file.truncate(self._durable.get(egroup, HEAD_BYTES))

    def _start(self, egroup: int) -> None:
        """Begin a file that nobody has begun: the next number may be one of a store that took over, or was taken for
        dead.
        """
        with _writing():
            while (file := self._fresh(egroup)) is None:
                egroup += 1
            self._new_names = True
            _whole(file, [pack_head(egroup, self.store_id)], 0)
        self._file = file
        self._dirty[egroup] = file
        self.egroup, self._end, self._at = egroup, HEAD_BYTES, HEAD_BYTES

    def _fresh(self, egroup: int) -> File | None:
        """None for one that holds extents, or is another process's."""
        file = self._files.claim(egroup)
        return None if file is None or file.size() > HEAD_BYTES else file


def _whole(file: File, buffers: Sequence[Buffer], offset: int) -> None:
    """A short write counts as an I/O error."""
    if file.pwritev(buffers, offset) != sum(len(buffer) for buffer in buffers):
        raise OSError(EIO, "short write")


class _writing:
    """Turn errors of a write into the engine's: out of space may be tried again, anything else freezes the store."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if not isinstance(exc, OSError):
            return
        if exc.errno in NO_SPACE:
            raise NoSpace(
                "no space for the extent store; free some or delete snapshots", os.strerror(exc.errno)
            ) from exc
        raise ef.StoreFrozen("the extent store cannot write; restart it after checking the disk", str(exc)) from exc
