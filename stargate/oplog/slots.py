# SPDX-License-Identifier: Apache-2.0
"""Slots: the files that segments live in."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from errno import EIO
from itertools import count
from threading import Lock

from stargate.errors import NoSpace, Unavailable
from stargate.fs.disk import NO_SPACE, Buffer, Disk, File
from stargate.oplog.format import (
    BATCH_MAGIC,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    Superblock,
    damaged,
    first_mark,
    pack_segment,
    parse_segment,
)
from stargate.units import KiB

FILL_BYTES = 256 * KiB
"""Of a new slot, in one call: a kernel that does not preempt itself lets nobody else run on this core until the call
ends, and taking fresh memory for a mebibyte can take it ten milliseconds."""

_ZEROS = bytes(FILL_BYTES)


@dataclass(eq=False)
class Slot:
    """One slot file. `header` None: it holds no segment of this log."""

    number: int
    file: File
    header: SegmentHeader | None


def slot_path(path: str, number: int) -> str:
    return f"{path}/slot-{number:04d}"


def slot_numbers(disk: Disk, path: str) -> list[int]:
    names = [name[5:] for name in disk.list(path) if name.startswith("slot-")]
    return sorted(int(name) for name in names if name.isdigit() and len(name) <= 8)


def open_slots(disk: Disk, path: str, info: Superblock, *, read_only: bool = False) -> list[Slot]:
    slots = []
    for number in slot_numbers(disk, path):
        file = disk.open(slot_path(path, number), read_only=read_only)
        slots.append(Slot(number, file, read_header(info, file)))
    return slots


def refuse_orphans(disk: Disk, path: str) -> None:
    """A folder with records but without a superblock is a log that lost it, not a fresh one: never write over that."""
    numbers = slot_numbers(disk, path)
    for number in numbers:
        file = disk.open(slot_path(path, number), read_only=True)
        try:
            begun = file.pread(len(BATCH_MAGIC), SEGMENT_HEADER_BYTES) == BATCH_MAGIC
        finally:
            file.close()
        if begun:
            raise damaged(0, "the superblock is missing, but the log has records")


def read_header(info: Superblock, file: File) -> SegmentHeader | None:
    return parse_segment(info, file.pread(SEGMENT_HEADER_BYTES, 0))


def write_whole(file: File, data: Buffer, offset: int) -> None:
    """Write all of `data`; a short write counts as an I/O error."""
    if file.pwritev([data], offset) != len(data):
        raise OSError(EIO, "short write")


def fill_zeros(file: File, size: int) -> None:
    """Allocate and write all of a slot, so that later appends change no metadata and cannot run out of space."""
    view = memoryview(_ZEROS)
    for offset in range(0, size, FILL_BYTES):
        write_whole(file, view[: min(FILL_BYTES, size - offset)], offset)
    file.fdatasync()


class SlotPool:
    """Slots that may take the next segment. `prepare` (any thread) and `take` (writer) exclude each other."""

    def __init__(self, disk: Disk, path: str, segment_bytes: int, slots: list[Slot], used: set[int]) -> None:
        self._disk = disk
        self._path = path
        self._segment_bytes = segment_bytes
        self._guard = Lock()
        self._ready: Slot | None = None
        self._numbers = {slot.number for slot in slots}
        self._free: deque[Slot] = deque()
        for slot in slots:
            if slot.number in used:
                continue
            if slot.file.size() == segment_bytes:
                self._free.append(slot)
            else:
                # A slot whose filling was cut off; it is made again when needed.
                slot.file.close()
                self._numbers.discard(slot.number)

    @property
    def ready(self) -> bool:
        return self._ready is not None

    def give(self, slot: Slot) -> None:
        self._free.append(slot)

    def take(self) -> Slot:
        """The prepared slot, else one made now (slow). Raises NoSpace; then nothing has changed."""
        with self._guard:
            slot, self._ready = self._ready, None
            if slot is not None:
                return slot
            return self._free.popleft() if self._free else self._make()

    def prepare(self) -> None:
        """Have a slot ready: made and zero-filled, or a released one read once, for appends write parts of pages.

        Raises NoSpace.
        """
        with self._guard:
            if self._ready is not None:
                return
            if self._free:
                slot = self._free.popleft()
                slot.file.warm(0, self._segment_bytes)
                self._ready = slot
            else:
                self._ready = self._make()

    def _make(self) -> Slot:
        number = next(n for n in count() if n not in self._numbers)
        path = slot_path(self._path, number)
        try:
            file = self._disk.open(path, create=True)
            try:
                file.truncate(0)
                fill_zeros(file, self._segment_bytes)
                self._disk.sync_dir(self._path)
            except BaseException:
                file.close()
                raise
        except OSError as exc:
            if exc.errno in NO_SPACE:
                with suppress(OSError):  # give the space back; a half-made slot does no harm
                    self._disk.unlink(path)
                raise NoSpace("the disk is full: the log cannot grow; free space on the site's data folder") from exc
            raise Unavailable("the log cannot make a new segment file", str(exc)) from exc
        self._numbers.add(number)
        return Slot(number, file, None)

    def close(self) -> None:
        with self._guard:
            rest = [*self._free] if self._ready is None else [self._ready, *self._free]
            self._free.clear()
            self._ready = None
        for slot in rest:
            slot.file.close()


def make_first(disk: Disk, path: str, info: Superblock) -> None:
    """The one slot of an empty log, with the header of its first segment; durable under its name."""
    slot = disk.open(slot_path(path, 0), create=True)
    try:
        slot.truncate(0)
        fill_zeros(slot, info.segment_bytes)
        write_whole(slot, pack_segment(info, SegmentHeader(0, 0, first_mark(info.log_id))), 0)
        slot.fdatasync()
    finally:
        slot.close()
    disk.sync_dir(path)
