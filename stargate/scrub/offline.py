# SPDX-License-Identifier: Apache-2.0
"""Check and repair of a stopped site's folder, in words. `check` changes nothing; `repair` moves aside, never deletes.

What needs another site's bytes is not done here: the running store heals it. What is lost for good is said, not hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import NamedTuple

from stargate.catalog.state import BatchRef, State
from stargate.errors import DamagedData, NotFound, StargateError
from stargate.extents.egroups import HEAD_BYTES, EgroupFiles, pack_head, parse_head, path_of
from stargate.extents.format import ZERO_HASH
from stargate.extents.index import Index, MemoryIndex
from stargate.extents.reader import ExtentReader
from stargate.extents.rebuild import rebuild_files
from stargate.front.recovery import load_state
from stargate.fs.disk import Disk
from stargate.hot.regions import HotReader
from stargate.hot.tables import damaged_copy, read_batch_table, restore_head
from stargate.oplog.damage import LOG_MADE
from stargate.oplog.format import SUPERBLOCK_SLOT_BYTES, LogMark, Superblock, first_mark
from stargate.oplog.note import DurableNote
from stargate.oplog.reader import LogReader
from stargate.oplog.recovery import recover
from stargate.oplog.slots import open_slots
from stargate.oplog.superblock import (
    bad_copies,
    copy_place,
    load_superblock,
    store_copy,
    superblock_copies,
    superblock_exists,
)
from stargate.scrub import checks
from stargate.scrub.places import named

ASIDE = "aside"


class Problem(NamedTuple):
    """`mend` does what can be done here and says what it did; None: nothing can be, `text` says what will."""

    part: str
    text: str
    mend: Callable[[], str] | None = None


def check(disk: Disk, index: Index | None) -> Iterator[Problem]:
    """Everything that is wrong with a folder that no process has open. `index` None: it cannot be opened."""
    try:
        state = load_state(disk)
    except NotFound:
        return
    except StargateError as exc:
        yield Problem(
            "catalog", f"{exc.message}. Without it nothing else can be judged; it is never repaired by guess."
        )
        return
    yield from _log(disk, state)
    yield from _hot(disk, state)
    yield from _extents(disk, state, index)


def _no_pause(read_bytes: int) -> None:
    """Nobody else works."""


# -- log --------------------------------------------------------------------------------------------------------------


def _log(disk: Disk, state: State) -> Iterator[Problem]:
    if not superblock_exists(disk, "oplog"):
        if state.log_id or disk.exists(LOG_MADE):
            yield Problem("log", "The log is gone; it was under oplog/. Bring the folder back.")
        return
    try:
        info, _ = load_superblock(disk, "oplog")
        bad = bad_copies(superblock_copies(disk, "oplog"))
        if bad:
            (text, *_) = checks.superblock(disk).values()
            yield Problem("log", text, lambda: _mend_superblock(disk, info, bad))
        covered = LogMark(*state.covered) if state.covered.position else first_mark(info.log_id)
        slots = open_slots(disk, "oplog", info, read_only=True)
        try:
            end = recover(info, slots, covered, DurableNote(disk, "oplog", info.log_id).read()).end
        finally:
            for slot in slots:
                slot.file.close()
    except DamagedData as exc:
        yield Problem("log", f"{exc.message}. The front serves what stands before it, read-only.")
        return
    reader = LogReader(disk, "oplog")
    try:
        for text in checks.log(reader, covered, end.position, _no_pause).values():
            yield Problem("log", f"{text} It is refused until it is written anew.")
    finally:
        reader.close()


def _mend_superblock(disk: Disk, info: Superblock, bad: Sequence[int]) -> str:
    kept = []
    for at in bad:
        name, offset = copy_place("oplog", at)
        if disk.exists(name):
            kept.append(_keep(disk, name, offset, SUPERBLOCK_SLOT_BYTES))
        store_copy(disk, "oplog", info, at)
    what = f"; what it held is in {', '.join(kept)}." if kept else "."
    return f"What was bad was written anew from a whole copy{what}"


# -- hot tier ---------------------------------------------------------------------------------------------------------


def _hot(disk: Disk, state: State) -> Iterator[Problem]:
    refs = [ref for epoch in state.epochs.values() for ref in epoch.batches]
    for ref in refs:
        try:
            copy = damaged_copy(disk, "hot", ref)
        except DamagedData:
            continue  # told below
        if copy is not None:
            text = f"One of the two tables of the batch at {ref.region}:{ref.offset} of the hot tier is damaged."
            yield Problem("hot tier", text, lambda ref=ref, copy=copy: _mend_table(disk, ref, copy))  # type: ignore[misc]
    reader = HotReader(disk, "hot")
    try:
        for text in checks.region(reader, refs, lambda ref: read_batch_table(disk, "hot", ref), _no_pause).values():
            yield Problem("hot tier", f"{text} Its blocks are refused until they are written anew.")
    finally:
        reader.close()


def _mend_table(disk: Disk, ref: BatchRef, copy: tuple[int, int, int]) -> str:
    kept = _keep(disk, f"hot/r-{ref.region:08d}", copy[1], copy[2])
    restore_head(disk, "hot", ref)
    return f"It was written anew from the other one; what it held is in {kept}."


# -- extents ----------------------------------------------------------------------------------------------------------


def _extents(disk: Disk, state: State, index: Index | None) -> Iterator[Problem]:
    files = EgroupFiles(disk, read_only=True)
    try:
        store_id = files.store_id() or (index.meta("store_id") if index is not None else None)
        if store_id is None:
            if files.numbers():
                yield Problem(
                    "extents", "No extent group has a readable header, and the index does not know it either."
                )
            return
        yield from _heads(disk, files, store_id)
        found = MemoryIndex()
        rebuild_files(files, found, store_id, roots=state.roots())
        sound = yield from _needed(disk, state, found, store_id)
        yield from _index(disk, index, sound, store_id)
    finally:
        files.close()


def _heads(disk: Disk, files: EgroupFiles, store_id: bytes) -> Iterator[Problem]:
    for number in files.numbers():
        try:
            parse_head(files.file(number).pread(HEAD_BYTES, 0), number)
        except DamagedData as exc:
            yield Problem("extents", f"{exc.message}.", lambda n=number: mend_head(disk, n, store_id))  # type: ignore[misc]


def mend_head(disk: Disk, number: int, store_id: bytes) -> str:
    """Write the header of an egroup anew: all that it says is known."""
    kept = _keep(disk, path_of(number), 0, HEAD_BYTES)
    file = disk.open(path_of(number))
    try:
        file.pwritev([pack_head(number, store_id)], 0)
        file.fdatasync()
    finally:
        file.close()
    return f"The header was written anew; what it held is in {kept}."


def _needed(disk: Disk, state: State, found: MemoryIndex, store_id: bytes) -> Generator[Problem, None, set[bytes]]:
    """Tells what is damaged or missing of what trees and hot tables name; gives what is sound."""
    reader = ExtentReader(disk, found, store_id=store_id)
    names = named(reader, state.roots())
    for ref in [ref for epoch in state.epochs.values() for ref in epoch.batches]:
        with suppress(DamagedData):  # told by the check of the hot tier
            names.update(digest for _, digest in read_batch_table(disk, "hot", ref).chunks if digest != ZERO_HASH)
    sound: set[bytes] = set()
    for digest in sorted(names):
        try:
            reader.verify(digest)
            sound.add(digest)
        except DamagedData as exc:
            text = f"{exc.message}. The running store heals it if a paired site shares it; else its blocks are refused."
            yield Problem("extents", text[0].upper() + text[1:])
    reader.files.close()
    return sound


def _index(disk: Disk, index: Index | None, sound: set[bytes], store_id: bytes) -> Iterator[Problem]:
    """The index is a cache: whatever is wrong with it, it is made anew from the extent groups."""
    reason = "it cannot be opened"
    if index is not None:
        try:
            reader = ExtentReader(disk, index, store_id=store_id)
            wrong = sum(not _is_right(reader, digest) for digest in sound)
            reader.files.close()
            if not wrong:
                return
            reason = f"{wrong} of {len(sound)} needed entries are missing or wrong"
        except StargateError as exc:
            reason = exc.message
    text = f"The index of the extents is damaged: {reason}."
    yield Problem("index", text, lambda: f"It was moved to {move_aside(disk, 'index')}; the store makes a new one.")


def _is_right(reader: ExtentReader, digest: bytes) -> bool:
    try:
        reader.confirm(digest)
    except DamagedData:
        return False
    return True


# -- moving aside -----------------------------------------------------------------------------------------------------


def move_aside(disk: Disk, folder: str) -> str:
    """An empty folder takes its place; where it is now."""
    kept = _aside(disk, folder)
    disk.rename(folder, kept)
    disk.mkdir(folder)
    disk.sync_dir(ASIDE)
    return kept


def _aside(disk: Disk, name: str) -> str:
    disk.mkdir(ASIDE)
    taken = disk.list(ASIDE)
    number = next(n for n in count(1) if f"{name}.{n}" not in taken)
    return f"{ASIDE}/{name}.{number}"


def _keep(disk: Disk, path: str, offset: int, length: int) -> str:
    """Copy bytes that are about to be written over."""
    source = disk.open(path, read_only=True)
    kept = _aside(disk, f"{path.replace('/', '-')}-{offset}")
    target = disk.open(kept, create=True)
    try:
        target.pwritev([source.pread(length, offset)], 0)
        target.fdatasync()
    finally:
        source.close()
        target.close()
    disk.sync_dir(ASIDE)
    return kept
