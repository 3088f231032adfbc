# SPDX-License-Identifier: Apache-2.0
"""Appending to extent groups: the only code that writes extents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from errno import EIO

from stargate.errors import DamagedData, NoSpace
from stargate.extents import format as ef
from stargate.extents.egroups import EGROUP_BYTES, FOLDER, HEAD_BYTES, EgroupFiles, pack_head, parse_head
from stargate.fs.disk import NO_SPACE, Buffer, File
from stargate.units import MiB

SPILL_BYTES = 4 * MiB
"""Appended bytes are held back until this many, then written in one call."""

_ZEROS = bytes(ef.EXTENT_ALIGN)


class Appender:
    """Writing side: the only one that appends. Bytes count as stored only after `sync` returned.

    They pass through the kernel's cache: what guests read of them comes back into it, and what a peer sent or a fold
    made is read by nobody for long; keeping it cost a quarter of the processor time of a replication, at either site.
    """

    def __init__(self, files: EgroupFiles, store_id: bytes, egroup_bytes: int = EGROUP_BYTES) -> None:
        self._files = files
        self.store_id = store_id
        self._limit = egroup_bytes
        self.appended_bytes = 0
        """By this process so far."""
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
        self.appended_bytes += length + padding
        self._end += length + padding

    def is_done_with(self, egroup: int) -> bool:
        """Whether nothing of this group is still to be written or synced."""
        return egroup < self.egroup and egroup not in self._dirty

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
