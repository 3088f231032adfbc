# SPDX-License-Identifier: Apache-2.0
"""`OpLog`: the only writer of the log.

Threads: `append` and `release` belong to one thread (the front's loop), `sync` and `seal` to another, `prepare` to
any. A single lock orders every fdatasync: the kernel reports a failed write-back to one caller only, so two of them at
a time could make one believe that all is well. A segment ends in two steps: `seal` makes it durable and begins the next
slot, which is slow and any thread's; then the appending thread enters it. Between them nothing is appended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock

from crc32c import crc32c

from stargate.errors import InvalidArgument, LogFrozen, LogFull, NotFound, StargateError
from stargate.fs.disk import Disk, File
from stargate.oplog.encode import Encoded, SegmentFull, encode, split
from stargate.oplog.format import (
    BATCH,
    BATCH_BODY,
    BATCH_MAGIC,
    CRC,
    FOOTER,
    SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN,
    SEGMENT_HEADER_BYTES,
    VERSION,
    Append,
    Appended,
    Footer,
    LogBatch,
    LogMark,
    SegmentHeader,
    Superblock,
    first_mark,
    pack_footer,
    pack_segment,
    segment_seed,
)
from stargate.oplog.note import DurableNote
from stargate.oplog.reader import Cursor
from stargate.oplog.recovery import Recovered, recover, settle
from stargate.oplog.skim import Run
from stargate.oplog.slots import Slot, SlotPool, open_slots, write_whole
from stargate.oplog.superblock import has_superblock, load_superblock, make_empty, raise_superblock
from stargate.units import GiB, MiB

__all__ = ["Append", "Appended", "OpLog", "SegmentFull"]

_new_tuple = tuple.__new__


class OpLog:
    """An open log. Make one with `create` or `open`; `close` gives the lock back."""

    def __init__(
        self, disk: Disk, path: str, lock: File, info: Superblock, slots: list[Slot], found: Recovered, start: LogMark
    ) -> None:
        self._lock_file = lock
        self._note = DurableNote(disk, path, info.log_id)
        self._sync_lock = Lock()
        self._noted = 0
        self._frozen: str | None = None
        self.info = info
        self.log_id = info.log_id
        self.cap_bytes = info.cap_bytes
        self.incarnation = info.incarnation
        self._segment_bytes = info.segment_bytes
        first = start.position // info.segment_bytes
        self._segments = {
            s.header.segment_index: s for s in slots if s.header is not None and s.header.segment_index >= first
        }
        self._pool = SlotPool(disk, path, info.segment_bytes, slots, {s.number for s in self._segments.values()})
        self._start = start
        self._recovered_end = found.end
        self._parts = found.parts
        self._released = start.position
        self._appended = self._durable = found.end
        # Whether this segment is to end (the appending thread asks for it), then the next slot or why there is none
        # (`seal` says so under its lock). One field, for the two threads must never see half of a step.
        self._ending: bool | Slot | StargateError = False
        self._enter(found.slot, found.end.position // info.segment_bytes)

    def _enter(self, slot: Slot, index: int) -> None:
        self._segments[index] = slot
        self._file = slot.file
        self._index = index
        self._base = index * self._segment_bytes
        self._limit = self._base + self._segment_bytes - FOOTER.size
        self._seed = segment_seed(self.log_id, self.incarnation, index)

    @classmethod
    def create(
        cls, disk: Disk, path: str, *, log_id: bytes, segment_bytes: int = 64 * MiB, cap_bytes: int = 4 * GiB
    ) -> OpLog:
        """Make an empty log; `log_id` is 16 random bytes. Raises AlreadyExists, Unavailable while another makes it.

        A creation cut off by a crash is done again.
        """
        if len(log_id) != 16 or not SEGMENT_BYTES_MIN <= segment_bytes <= min(SEGMENT_BYTES_MAX, cap_bytes):
            raise InvalidArgument("a log needs an id of 16 bytes and segments of 16 KiB to 1 GiB, at most its cap")
        disk.mkdir(path)
        lock = disk.lock(f"{path}/lock")  # of two first starts at once one makes the log, the other is refused
        try:
            make_empty(disk, path, Superblock(log_id, segment_bytes, cap_bytes, 0))
        finally:
            lock.close()
        return cls.open(disk, path, covered=first_mark(log_id))

    @classmethod
    def open(cls, disk: Disk, path: str, *, covered: LogMark, known_durable: int = 0) -> OpLog:
        """Recover from `covered` (what the catalog holds) and begin a new incarnation.

        Raises LogDamaged, with nothing changed, when the log ends below a position known to be durable from anywhere;
        NotFound without a log; Unavailable when another process has it; LogFrozen when the disk fails on the way.
        """
        if not cls.exists(disk, path):
            raise NotFound(f"there is no log in {path}")
        lock = disk.lock(f"{path}/lock")
        slots: list[Slot] = []
        try:
            info, _ = load_superblock(disk, path)
            slots = open_slots(disk, path, info)
            found = recover(info, slots, covered, max(known_durable, DurableNote(disk, path, info.log_id).read()))
            info = info._replace(incarnation=found.incarnation + 1)
            try:
                settle(info, found)
                disk.sync_dir(path)  # an earlier process may have ended before a slot's name was durable
                raise_superblock(disk, path, info)
            except OSError as exc:
                raise LogFrozen("the log cannot be made durable at start; check the disk", str(exc)) from exc
            return cls(disk, path, lock, info, slots, found, covered)
        except BaseException:
            for slot in slots:
                slot.file.close()
            lock.close()
            raise

    @staticmethod
    def exists(disk: Disk, path: str) -> bool:
        """False also for a log whose creation a crash cut off."""
        return has_superblock(disk, path)

    def close(self) -> None:
        """Close the files; says nothing about durability. The object is of no use afterwards."""
        with self._sync_lock:
            self._frozen = self._frozen or "the log is closed"
            for slot in [*self._segments.values(), *([self._ending] if isinstance(self._ending, Slot) else [])]:
                slot.file.close()
            self._pool.close()
            self._note.close()
            self._lock_file.close()

    @property
    def appended(self) -> LogMark:
        return self._appended

    @property
    def durable(self) -> LogMark:
        return self._durable

    @property
    def used_bytes(self) -> int:
        """From the oldest position not released to the end: what `cap_bytes` bounds."""
        return self._appended.position - self._released

    @property
    def segment_left(self) -> int:
        """Bytes that still fit into the segment that is being written."""
        return self._limit - self._appended.position

    @property
    def frozen(self) -> str | None:
        """Why the log takes nothing any more; None: it does."""
        return self._frozen

    @property
    def recovered(self) -> Iterator[LogBatch]:
        """The batches found at open, oldest first; read again from disk on each use, for a full log's would be many."""
        return Cursor(self.info, self._segments.get, self._start, verify_above=None).until(self._recovered_end.position)

    def replayed(self) -> Iterator[LogBatch | Run]:
        """The same once, for the start: what `open` kept of long runs, and the rest read again. Frees what was kept."""
        parts, self._parts = self._parts, []
        for part in parts:
            if isinstance(part, Run):
                yield part
                continue
            cursor = Cursor(self.info, self._segments.get, part.start, verify_above=None)
            cursor.incarnation = part.incarnation
            yield from cursor.until(part.end)

    def _check(self) -> None:
        if self._frozen is not None:
            raise LogFrozen("the log is frozen and its disks are read-only: " + self._frozen, self._frozen)

    def _freeze(self, what: str, exc: OSError | None) -> LogFrozen:
        """For ever: after a failed write or sync nobody knows what is stored, and asking again may lie (D3)."""
        self._frozen = self._frozen or f"{what} failed ({exc or 'short write'}); check the disk, then restart"
        return LogFrozen("the log is frozen and its disks are read-only: " + self._frozen, self._frozen)

    def append(self, items: Sequence[Append], *, wait: bool = True) -> list[Appended]:
        """Write `items` as one batch with one call and say where each went.

        All data has been taken over when this returns; it is durable after a `sync` begun afterwards. Raises LogFull,
        NoSpace or InvalidArgument with nothing written; LogFrozen. Only what exceeds a whole segment becomes several
        batches, of which the first may be in the log when NoSpace is raised for a later one.

        Without `wait` it raises SegmentFull, nothing written, where it would wait for the disk: have another thread
        call `seal`, then append again.
        """
        if self._frozen is not None:
            self._check()
        if not items:
            return []
        if self._ending is not False and not self._enter_sealed(wait):
            raise SegmentFull
        encoded = encode(items)
        end = self._appended.position + encoded.size
        if end > self._limit:
            return self._append_across(items, encoded, wait)
        if end - self._released > self.cap_bytes:
            raise LogFull("the log is full until the store has drained it")
        return self._write(encoded)

    def _write(self, encoded: Encoded) -> list[Appended]:
        position, seq, previous = self._appended
        table, buffers, payload_bytes, starts, all_crcs = encoded
        incarnation, durable = self.incarnation, self._durable.position
        count = len(starts)
        body = BATCH_BODY.pack(
            BATCH_MAGIC,
            VERSION,
            BATCH.size,
            incarnation,
            seq + 1,
            position,
            count,
            len(table),
            payload_bytes,
            durable,
            previous,
        )
        crc = crc32c(table, crc32c(body, self._seed))
        size = BATCH.size + len(table) + payload_bytes
        try:
            written = self._file.pwritev([body + CRC.pack(crc) + table, *buffers], position - self._base)
        except OSError as exc:
            raise self._freeze("a write to the log", exc) from exc
        if written != size:
            raise self._freeze("a write to the log", None)
        self._appended = _new_tuple(LogMark, (position + size, seq + 1, crc))
        base = position + BATCH.size + len(table)
        return [
            _new_tuple(Appended, (base + at if at >= 0 else position, crcs))
            for at, crcs in zip(starts, all_crcs, strict=True)
        ]

    def _append_across(self, items: Sequence[Append], encoded: Encoded, wait: bool) -> list[Appended]:
        """The batch does not fit into the rest of the segment: begin the next; split what exceeds a whole one."""
        room = self._segment_bytes - SEGMENT_HEADER_BYTES - FOOTER.size
        batches = [encoded] if encoded.size <= room else split(items, room)
        end = self._appended.position
        for batch in batches:
            if end % self._segment_bytes + batch.size > self._segment_bytes - FOOTER.size:
                end = (end // self._segment_bytes + 1) * self._segment_bytes + SEGMENT_HEADER_BYTES
            end += batch.size
        if end - self._released > self.cap_bytes:
            raise LogFull("the log is full until the store has drained it")
        if not wait and len(batches) == 1:
            self._ending = True
            raise SegmentFull
        placed: list[Appended] = []
        for batch in batches:
            if self._appended.position + batch.size > self._limit:
                self._ending = True
                self._enter_sealed(wait=True)
            placed += self._write(batch)
        return placed

    def _enter_sealed(self, wait: bool) -> bool:
        """Go on in the next segment. False: it is not ready, and `wait` is not wanted. Raises NoSpace, LogFrozen."""
        if self._ending is True:
            if not wait:
                return False
            self.seal()
        ended, self._ending = self._ending, False
        if not isinstance(ended, Slot):
            raise ended if isinstance(ended, StargateError) else self._freeze("sealing a segment", None)
        mark = self._appended
        self._enter(ended, self._index + 1)
        self._appended = mark._replace(position=self._base + SEGMENT_HEADER_BYTES)
        return True

    def sync(self, *, note: bool = True) -> int:
        """Make everything appended before the call durable; the position that is durable now. Without `note` the caller
        calls that method, once it has told who waits.

        Raises LogFrozen, then and ever after.
        """
        with self._sync_lock:
            position = self._sync()
        if note:
            self.note()
        return position

    def try_sync(self) -> bool:
        """`sync` without the note, and without waiting for another thread that is at it. False: nothing was done,
        because there is one, or the segment is at its end."""
        if self._ending is not False or not self._sync_lock.acquire(blocking=False):
            return False
        try:
            self._sync()
        finally:
            self._sync_lock.release()
        return True

    def _sync(self) -> int:
        self._check()
        mark = self._appended
        if mark != self._durable:
            try:
                self._file.fdatasync()
            except OSError as exc:
                raise self._freeze("fdatasync", exc) from exc
            self._durable = mark
        return mark.position

    def note(self) -> None:
        """Note behind a sync, once nobody waits for it, up to where the log is durable: see `DurableNote`. Not while
        another thread syncs; it notes for both."""
        if self._sync_lock.acquire(blocking=False):
            try:
                if self._frozen is None and self._durable.position > self._noted:
                    self._noted = self._durable.position
                    self._note.write(self._noted)
            finally:
                self._sync_lock.release()

    @property
    def sealing(self) -> bool:
        """The segment takes nothing more: `seal` is wanted, or has been done and not been used yet."""
        return self._ending is not False

    @property
    def next_ready(self) -> bool:
        """The next segment can begin without a new slot being made."""
        return isinstance(self._ending, Slot) or self._pool.ready

    def seal(self) -> None:
        """Footer, fdatasync, then the next segment's header (L4). Does nothing unless `sealing`; what fails is raised
        by the next `append`.
        """
        with self._sync_lock:
            if self._ending is not True:
                return
            try:
                self._ending = self._seal()
            except StargateError as exc:
                self._ending = exc

    def _seal(self) -> Slot:
        self._check()
        slot = self._pool.take()
        mark = self._appended
        footer = Footer(self.incarnation, mark.seq, mark.position, self._durable.position, mark.crc)
        header = SegmentHeader(self._index + 1, self.incarnation, mark)
        try:
            write_whole(self._file, pack_footer(footer, self._seed), mark.position - self._base)
            self._file.fdatasync()
            self._durable = mark
            write_whole(slot.file, pack_segment(self.info, header), 0)
        except OSError as exc:
            raise self._freeze("sealing a segment", exc) from exc
        slot.header = header
        return slot

    def prepare(self) -> None:
        """Get the next segment's slot ready, so that `append` does not have to. Raises NoSpace; the log goes on."""
        self._check()
        self._pool.prepare()

    def release(self, up_to: int) -> None:
        """Nothing below `up_to` is needed any more (drained, swapped, unpinned): whole segments below become free."""
        if up_to > self._durable.position:
            raise InvalidArgument(f"position {up_to} is not durable, it cannot be released")
        self._released = max(self._released, up_to)
        for index in [known for known in list(self._segments) if known < self._released // self._segment_bytes]:
            self._pool.give(self._segments.pop(index))
