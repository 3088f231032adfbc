# SPDX-License-Identifier: Apache-2.0
"""The superblock says which log a folder holds. It stands in two files, so that no lost range or file takes it away.

Each file has two pages, written in turn: while one is written the other holds. The files are written one after the
other, each durable before the next is touched. So after any crash one page is whole in both, and of a log that was
handed out the newest is. Logs of older engines have the first file only; `store_superblock` makes the second.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from stargate.errors import AlreadyExists, NotFound
from stargate.fs.disk import NO_SPACE, Disk
from stargate.oplog.format import SUPERBLOCK_SLOT_BYTES, Superblock, damaged, parse_superblock
from stargate.oplog.slots import make_first, refuse_orphans, write_whole

SUPERBLOCK_FILES = ("superblock", "superblock-2")

log = logging.getLogger(__name__)


def superblock_path(path: str) -> str:
    """The first file, which is what older engines know."""
    return f"{path}/{SUPERBLOCK_FILES[0]}"


def superblock_exists(disk: Disk, path: str) -> bool:
    """Whether either file is there, whatever it holds."""
    return any(disk.exists(f"{path}/{name}") for name in SUPERBLOCK_FILES)


def has_superblock(disk: Disk, path: str) -> bool:
    """False for files that are missing, empty or half-written for the first time: the log was never handed out."""
    return any(any(page) for page in _pages(disk, path))


def superblock_copies(disk: Disk, path: str) -> list[Superblock | None]:
    """Both pages of the first file, then both of the second; None: missing, unreadable, or of another log than the
    first good one.
    """
    copies = [parse_superblock(page) for page in _pages(disk, path)]
    log_id = next((copy.log_id for copy in copies if copy is not None), None)
    return [copy if copy is not None and copy.log_id == log_id else None for copy in copies]


def _pages(disk: Disk, path: str) -> list[bytes]:
    pages: list[bytes] = []
    for name in SUPERBLOCK_FILES:
        try:
            file = disk.open(f"{path}/{name}", read_only=True)
        except FileNotFoundError:
            pages += [b"", b""]
            continue
        try:
            pages += [file.pread(SUPERBLOCK_SLOT_BYTES, at * SUPERBLOCK_SLOT_BYTES) for at in (0, 1)]
        finally:
            file.close()
    return pages


def load_superblock(disk: Disk, path: str) -> tuple[Superblock, int]:
    """The newest good copy and on which of the two pages it stands.

    Raises NotFound without a log, LogDamaged when no copy is good.
    """
    if not superblock_exists(disk, path):
        raise NotFound(f"there is no log in {path}")
    good = [(copy, at % 2) for at, copy in enumerate(superblock_copies(disk, path)) if copy is not None]
    if not good:
        raise damaged(0, "all copies of the superblock are unreadable")
    return max(good, key=lambda pair: pair[0].incarnation)


def bad_copies(copies: Sequence[Superblock | None]) -> list[int]:
    """Which of `superblock_copies` a start of the front would write anew. The first start writes the second pages."""
    newest = max((copy.incarnation for copy in copies if copy is not None), default=None)
    if newest == 0:
        return []
    bad = [at for at, copy in enumerate(copies) if copy is None]
    for first in (0, 2):
        pair = [copy.incarnation for copy in copies[first : first + 2] if copy is not None]
        if pair and newest not in pair:  # the file was left behind by a crash, by an older engine or on a full disk
            bad.append(first)
    return sorted(set(bad))


def raise_superblock(disk: Disk, path: str, info: Superblock) -> None:
    """Make `info`, of a higher incarnation, the newest on both files, and every page whole again."""
    old, page = load_superblock(disk, path)
    store_superblock(disk, path, info, 1 - page)
    if None in superblock_copies(disk, path):
        store_superblock(disk, path, old, page)


def store_superblock(disk: Disk, path: str, info: Superblock, page: int) -> None:
    """Write one page of the first file and make it durable, then of the second; the other pages stay as they are. Only
    for want of space the second may be left behind: a start must not fail for that.
    """
    store_copy(disk, path, info, page)
    try:
        store_copy(disk, path, info, 2 + page)
    except OSError as exc:
        if exc.errno not in NO_SPACE:
            raise
        log.warning("the disk is full: %s could not be written; a later start does it", copy_place(path, 2)[0])


def copy_place(path: str, at: int) -> tuple[str, int]:
    """The file and the offset of the copy that `superblock_copies` gives at `at`."""
    return f"{path}/{SUPERBLOCK_FILES[at // 2]}", at % 2 * SUPERBLOCK_SLOT_BYTES


def store_copy(disk: Disk, path: str, info: Superblock, at: int) -> None:
    """Write this copy and make it durable, with its file's name if that is new."""
    name, offset = copy_place(path, at)
    made = not disk.exists(name)
    file = disk.open(name, create=made)
    try:
        write_whole(file, info.pack(), offset)
        file.fdatasync()
    finally:
        file.close()
    if made:
        disk.sync_dir(path)


def make_empty(disk: Disk, path: str, info: Superblock) -> None:
    """The files of an empty log, the superblock last. Raises AlreadyExists."""
    if has_superblock(disk, path):
        raise AlreadyExists(f"there is a log in {path}")
    refuse_orphans(disk, path)
    make_first(disk, path, info)
    store_superblock(disk, path, info, 0)
