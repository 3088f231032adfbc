# SPDX-License-Identifier: Apache-2.0
"""`CatalogLog`: the store's durable list of ops, one file per generation, begun by a checkpoint.

One writer, by lock: of the folder, and of the file itself, so that one that was taken for dead and comes back in the
middle of a write spoils nothing of its successor's, who begins a file of its own. A file `gen-00000002` replaces
`gen-00000001` in one rename; the older file is removed afterwards.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress
from errno import EIO
from typing import Any

from stargate.catalog.format import (
    FILE,
    KNOWN,
    OPS,
    STATE,
    Contents,
    damaged,
    frame_crc,
    pack_file,
    pack_frame,
    pack_known,
    parse_catalog,
    parse_known,
)
from stargate.errors import LogFrozen, NoSpace, NotFound, Unavailable
from stargate.fs.disk import NO_SPACE, Disk, File, write_atomic

log = logging.getLogger(__name__)

_PREFIX = "gen-"
_READ_TRIES = 10


def _file_path(path: str, generation: int) -> str:
    return f"{path}/{_PREFIX}{generation:08d}"


def _generations(disk: Disk, path: str) -> list[int]:
    names = [name.removeprefix(_PREFIX) for name in disk.list(path) if name.startswith(_PREFIX)]
    return sorted(int(name) for name in names if name.isdigit() and len(name) == 8)


def _read(disk: Disk, path: str, generation: int) -> Contents:
    file = disk.open(_file_path(path, generation), read_only=True)
    try:
        raw = file.pread(file.size(), 0)
    finally:
        file.close()
    return parse_catalog(_file_path(path, generation), raw, generation)


def known_path(path: str) -> str:
    return f"{path}/known"


def _read_known(disk: Disk, path: str) -> int:
    try:
        file = disk.open(known_path(path), read_only=True)
    except FileNotFoundError:
        return 0
    try:
        return parse_known(file.pread(KNOWN.size, 0))
    finally:
        file.close()


def read_catalog(disk: Disk, path: str) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """(last checkpoint or None, ops since) as of now, without the lock: for the front, while the store may be
    appending.

    Raises NotFound when there is no catalog yet, DamagedData when it is unreadable.
    """
    for _ in range(_READ_TRIES):
        known = _read_known(disk, path) if disk.exists(path) else 0  # first: what is appended meanwhile is no damage
        generations = _generations(disk, path) if disk.exists(path) else []
        if not generations:
            raise NotFound(f"there is no catalog in {path}")
        try:
            contents = _read(disk, path, generations[-1])
        except FileNotFoundError:
            continue  # a checkpoint replaced it between the two calls
        if contents.seq < known:
            raise damaged(path, contents.end, f"frame {known} is known to be durable")
        return contents.state, contents.ops
    raise damaged(path, 0, "its newest file keeps vanishing")


class CatalogLog:
    """The open catalog. A call that fails on the disk, but for a lack of space before anything was synced, poisons it:
    reopen to learn what is stored.
    """

    def __init__(self, disk: Disk, path: str, lock: File, contents: Contents) -> None:
        self._disk = disk
        self._path = path
        self._lock = lock
        self._poison: str | None = None
        self.foreign = False
        """Another process holds the file: nothing is appended to it, the next call has to be a `checkpoint`."""
        try:
            self._follow(contents.generation, contents.seq, contents.crc, contents.end)
        except Unavailable:
            self.foreign = True
            self._file = disk.open(_file_path(path, contents.generation), read_only=True)

    def _follow(self, generation: int, seq: int, crc: int, end: int) -> None:
        self.generation, self.seq, self._crc, self.size_bytes = generation, seq, crc, end
        self._file = self._disk.lock(_file_path(self._path, generation))

    @classmethod
    def open(
        cls, disk: Disk, path: str, *, known_seq: int = 0
    ) -> tuple[CatalogLog, dict[str, Any] | None, list[dict[str, Any]]]:
        """Open, or make, the catalog: (log, last checkpoint or None, ops since). A torn last frame is cut off.

        `known_seq` is a frame number known from elsewhere to be durable. Raises DamagedData, with nothing changed,
        for a
        file that ends before it or that is bad in its middle; Unavailable when another process has the catalog.
        """
        disk.mkdir(path)
        lock = disk.lock(f"{path}/lock")
        try:
            known_seq = max(known_seq, _read_known(disk, path))
            generations = _generations(disk, path)
            if not generations and known_seq == 0:
                write_atomic(disk, _file_path(path, 1), pack_file(1, secrets.token_bytes(16)))
                generations = [1]
            if not generations:
                raise damaged(path, 0, "it is missing")
            contents = _read(disk, path, generations[-1])
            if contents.seq < known_seq:
                raise damaged(path, contents.end, f"frame {known_seq} is known to be durable")
            log = cls(disk, path, lock, contents)
            if not log.foreign:
                log._clean(generations[:-1])
        except BaseException:
            lock.close()
            raise
        return log, contents.state, contents.ops

    def _clean(self, older: Sequence[int]) -> None:
        """Cut the torn frame, make what was read truly durable, remove what a crash left of a checkpoint."""
        raw = self._file.pread(self.size_bytes, 0)
        self._file.truncate(self.size_bytes)
        # Written again: after a failed sync the kernel holds pages that only look stored.
        self._whole(raw, 0)
        self._file.fdatasync()
        if older:
            self._disk.sync_dir(self._path)  # the checkpoint may have ended before its name was durable
        for generation in older:
            self._disk.unlink(_file_path(self._path, generation))
        for name in self._disk.list(self._path):
            if name.endswith(".tmp"):
                self._disk.unlink(f"{self._path}/{name}")
        self._disk.sync_dir(self._path)

    def _whole(self, data: bytes, offset: int) -> None:
        if self._file.pwritev([data], offset) != len(data):
            raise OSError(EIO, "short write")

    def append(self, ops: Sequence[dict[str, Any]]) -> int:
        """Store `ops` as one frame: all of them or, after a crash, none.

        Durable on return; returns the frame's number. Raises NoSpace with nothing changed: it may be tried again.
        """
        self._check()
        if self.foreign:
            raise self.give_up("another process holds its file")
        frame = pack_frame(OPS, self.seq + 1, self._crc, list(ops))
        try:
            self._whole(frame, self.size_bytes)
        except OSError as exc:
            raise self._not_written(exc) from exc
        try:
            self._file.fdatasync()
        except OSError as exc:
            raise self._poisoned(exc) from exc
        self.seq += 1
        self._note_known()
        self._crc = frame_crc(frame)
        self.size_bytes += len(frame)
        return self.seq

    def _note_known(self) -> None:
        """Behind the sync of the frame, and never synced itself: it may be older than the catalog, never ahead of it.
        Without it the last frame looks torn when it rots or is cut off.
        """
        try:
            file = self._disk.open(known_path(self._path), create=True)
            try:
                file.pwritev([pack_known(self.seq)], 0)
            finally:
                file.close()
        except OSError as exc:
            log.warning("the catalog's note of its last frame cannot be written: %s", exc)

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Begin a new file with `state`, which must hold every op appended so far. Durable on return.

        Raises NoSpace: the old file goes on.
        """
        self._check()
        # The one behind a file that another process holds is that one's, should it be in the middle of a checkpoint.
        generation = self.generation + (2 if self.foreign else 1)
        head = pack_file(generation, secrets.token_bytes(16))
        frame = pack_frame(STATE, self.seq, int.from_bytes(head[-4:], "little"), state)
        path = _file_path(self._path, generation)
        try:
            write_atomic(self._disk, path, head + frame)
        except OSError as exc:
            if exc.errno not in NO_SPACE or self._disk.exists(path):
                raise self._poisoned(exc) from exc
            with suppress(OSError):
                self._disk.unlink(path + ".tmp")
            raise NoSpace("the disk is full: the catalog keeps its old file") from exc
        try:
            self._file.close()
            old = self.generation
            self._follow(generation, self.seq, frame_crc(frame), FILE.size + len(frame))
            self.foreign = False
            self._disk.unlink(_file_path(self._path, old))
            self._disk.sync_dir(self._path)
        except (OSError, Unavailable) as exc:
            raise self._poisoned(exc) from exc

    def _not_written(self, exc: OSError) -> LogFrozen | NoSpace:
        """Out of space before any sync: with the part of the frame cut off again, nothing has happened."""
        if exc.errno not in NO_SPACE:
            return self._poisoned(exc)
        try:
            self._file.truncate(self.size_bytes)
        except OSError as other:
            return self._poisoned(other)
        return NoSpace("the disk is full: the catalog cannot be written; free space on the site's data folder")

    def _check(self) -> None:
        if self._poison is not None:
            raise LogFrozen("the catalog takes nothing more until the store restarts: " + self._poison)

    def give_up(self, why: str) -> LogFrozen:
        """Take nothing more: the caller's state is not that of the file any more. To be raised."""
        self._poison = why
        return LogFrozen("the catalog takes nothing more until the store restarts: " + why)

    def _poisoned(self, exc: OSError | Unavailable) -> LogFrozen:
        """Nobody knows what is stored: never NoSpace, for after that what the op names may be written over."""
        self._poison = str(exc)
        return LogFrozen(f"the catalog cannot be written ({exc}); check the disk, then restart the store")

    def close(self) -> None:
        self._poison = self._poison or "it is closed"
        self._file.close()
        self._lock.close()
