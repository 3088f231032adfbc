# SPDX-License-Identifier: Apache-2.0
"""Extent-group files: append-only, 256 MiB, `egroups/g-00000001`. A place once written is never written again."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from contextlib import suppress

from crc32c import crc32c

from stargate.errors import DamagedData, Unavailable
from stargate.extents import format as ef
from stargate.extents.index import Freed
from stargate.fs.disk import Disk, File
from stargate.units import BLOCK_BYTES, MiB

FOLDER = "egroups"
EGROUP_BYTES = 256 * MiB

_NAME = re.compile(r"g-(\d{8})\Z")
_HEAD = struct.Struct("<8sII16s")
_MAGIC = b"PXEGRP01"
_VERSION = 1
HEAD_BYTES = ef.EXTENT_ALIGN
_SCAN_BYTES = 2 * MiB
_HEADER_MAX = ef.HEADER_BYTES + ef.table_bytes(ef.CHUNK_BYTES_MAX)
_ZERO_PAGES = 8
"""Pages of zeros that an empty group may keep: the ones that it shares with its header and its end."""


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
        self._dying: list[File] = []
        self._pruned = 0

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

    def is_empty(self, egroup: int) -> bool:
        """Whether nothing but holes and zeros lies behind the header. Says no to a file with many pages of zeros."""
        file = self.file(egroup)
        at = HEAD_BYTES
        for _ in range(_ZERO_PAGES):
            found = file.first_data(at)
            if found is None:
                return True
            at = (found // BLOCK_BYTES + 1) * BLOCK_BYTES
            if any(file.pread(at - found, found)):
                return False
        return False

    def remove(self, egroups: Sequence[int]) -> None:
        """Unlink files, durably. Who reads one goes on in it, or looks its extent up again."""
        for egroup in egroups:
            with suppress(FileNotFoundError):
                self.disk.unlink(path_of(egroup))
        self.disk.sync_dir(FOLDER)
        self._let_go(egroups)

    def prune(self, count: int = 32) -> list[int]:
        """Let go of files that another process removed; which, of the next `count` in turn."""
        numbers = list(self._files)
        some = numbers[self._pruned : self._pruned + count]
        self._pruned = self._pruned + count if some else 0
        gone = [number for number in some if not _is_named(self._files.get(number))]
        self._let_go(gone)
        return gone

    def _let_go(self, egroups: Sequence[int]) -> None:
        """Descriptors are closed one turn later: a reader in another thread may just be about to use one."""
        dying, self._dying = self._dying, []
        for file in dying:
            file.close()
        for egroup in egroups:
            self._claimed.discard(egroup)
            if egroup in self._files:
                self._dying.append(self._files.pop(egroup))

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

    def next_header(self, egroup: int, at: int, store_id: bytes) -> tuple[int, ef.ExtentHeader] | None:
        """Offset and verified header of the first extent at `at` or behind it; None when there is none. Steps over
        holes, torn tails and damage.
        """
        file = self.file(egroup)
        end = file.size()
        while at < end:
            found = _header_at(file.pread(_HEADER_MAX, at), at, store_id, egroup)
            if found is None:
                window = file.pread(_SCAN_BYTES, at)
                found = _first_header(window, at, store_id, egroup)
            if found is not None:
                return found
            at += max(ef.EXTENT_ALIGN, (len(window) - _HEADER_MAX) & -ef.EXTENT_ALIGN)
        return None

    def close(self) -> None:
        for file in (*self._files.values(), *self._dying):
            file.close()
        self._files.clear()
        self._dying.clear()
        self._claimed.clear()


def _is_named(file: File | None) -> bool:
    """True when nobody can tell: the file was closed meanwhile, say."""
    with suppress(OSError):
        return file is None or file.is_named()
    return True


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
