# SPDX-License-Identifier: Apache-2.0
"""`Disk` and `File`: the only way engine code touches files, so that the real code also runs under a simulator.

Paths are relative to the disk's root, with `/`. Errors are `OSError` as the kernel gives them; callers turn ENOSPC
into `NoSpace`.
A new or renamed name is durable only after `sync_dir` of its folder, a folder when `mkdir` returns; bytes only after
`fdatasync` of the file.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from stargate.errors import Unavailable

Buffer = bytes | bytearray | memoryview

IOV_MAX = 1024

_RWF_DONTCACHE = 0x80
"""Linux >= 6.14, on the file systems that support it: written back at once, and its pages used again."""

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the kernel says when there is no room: on the file system, in a quota, in a process's limit."""


class File(Protocol):
    """An open file. Reads may come back short only at the end of the file; writes are whole or raise."""

    def pread(self, length: int, offset: int) -> bytes: ...

    def preadv(self, buffers: Sequence[bytearray | memoryview], offset: int) -> int: ...

    def warm(self, offset: int, length: int) -> None:
        """Have the kernel's cache hold these bytes, as far as the file has them."""
        ...

    def pwritev(self, buffers: Sequence[Buffer], offset: int) -> int: ...

    def pass_through(self) -> None:
        """What is written from now on need not stay in the kernel's cache, where the system can do that."""
        ...

    def fdatasync(self) -> None: ...

    def size(self) -> int: ...

    def first_data(self, offset: int) -> int | None:
        """Where, from `offset` on, the first byte lies that is not in a hole; None when there is none. A file system
        without holes calls everything data.
        """
        ...

    def is_named(self) -> bool:
        """Whether the file still has a name in its folder."""
        ...

    def truncate(self, size: int) -> None: ...

    def punch(self, offset: int, length: int) -> None: ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """A folder tree."""

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File: ...

    def exists(self, path: str) -> bool: ...

    def list(self, path: str) -> list[str]: ...

    def mkdir(self, path: str) -> None: ...

    def rename(self, source: str, target: str) -> None: ...

    def unlink(self, path: str) -> None: ...

    def sync_dir(self, path: str) -> None: ...

    def free_bytes(self) -> int: ...

    def total_bytes(self) -> int: ...

    def lock(self, path: str) -> File: ...


def write_atomic(disk: Disk, path: str, data: bytes) -> None:
    """Replace `path` by `data`: temp file, fdatasync, rename, folder fsync. After a crash either the old or the new
    bytes are there."""
    temp = path + ".tmp"
    file = disk.open(temp, create=True)
    try:
        file.truncate(0)
        if file.pwritev([data], 0) != len(data):
            raise OSError(errno.EIO, "short write", temp)
        file.fdatasync()
    finally:
        file.close()
    disk.rename(temp, path)
    disk.sync_dir(os.path.dirname(path))


class OsFile:
    """`File` over a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._write_flags = 0

    def pread(self, length: int, offset: int) -> bytes:
        return os.pread(self._fd, length, offset)

    def preadv(self, buffers: Sequence[bytearray | memoryview], offset: int) -> int:
        return os.preadv(self._fd, buffers, offset)

    def warm(self, offset: int, length: int) -> None:
        """Sent to where nothing is kept: read, but not copied, which is a tenth of the work."""
        sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            end = offset + length
            while offset < end and (sent := os.sendfile(sink, self._fd, offset, end - offset)):
                offset += sent
        finally:
            os.close(sink)

    def pwritev(self, buffers: Sequence[Buffer], offset: int) -> int:
        total = sum(map(len, buffers))
        if len(buffers) <= IOV_MAX:
            done = self._pwritev(buffers, offset)
            if done == total:
                return total
            return self._finish(buffers, offset, done, total)
        return self._finish(buffers, offset, 0, total)

    def _finish(self, buffers: Sequence[Buffer], offset: int, done: int, total: int) -> int:
        """The rest after a short write (a signal, or the last bytes before a full disk) or a long vector."""
        rest = [memoryview(b).cast("B") for b in buffers]
        first, skip, written = 0, done, done
        while written < total:
            while skip >= len(rest[first]):
                skip -= len(rest[first])
                first += 1
            rest[first] = rest[first][skip:]
            skip = self._pwritev(rest[first : first + IOV_MAX], offset + written)
            written += skip
        return total

    def _pwritev(self, buffers: Sequence[Buffer], offset: int) -> int:
        try:
            return os.pwritev(self._fd, buffers, offset, self._write_flags)
        except OSError as exc:
            if not self._write_flags or exc.errno != errno.EOPNOTSUPP:
                raise
        self._write_flags = 0  # an older kernel, or a file system that cannot
        return os.pwritev(self._fd, buffers, offset)

    def pass_through(self) -> None:
        self._write_flags = _RWF_DONTCACHE

    def fdatasync(self) -> None:
        os.fdatasync(self._fd)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def first_data(self, offset: int) -> int | None:
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
            return None

    def is_named(self) -> bool:
        return os.fstat(self._fd).st_nlink > 0

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def punch(self, offset: int, length: int) -> None:
        _punch_hole(self._fd, offset, length)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OsDisk:
    """`Disk` over a real folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        _make_folders(str(self.root))

    def _path(self, path: str) -> str:
        return os.path.join(self.root, path)

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> OsFile:
        flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR) | (os.O_CREAT if create else 0)
        return OsFile(os.open(self._path(path), flags, 0o600))

    def exists(self, path: str) -> bool:
        return os.path.exists(self._path(path))

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(self._path(path)))

    def mkdir(self, path: str) -> None:
        folder = self._path(path)
        _make_folders(folder)
        _sync_folder(os.path.dirname(folder))  # also when it was there: who made it may have been killed before this

    def rename(self, source: str, target: str) -> None:
        os.rename(self._path(source), self._path(target))

    def unlink(self, path: str) -> None:
        os.unlink(self._path(path))

    def sync_dir(self, path: str) -> None:
        _sync_folder(self._path(path))

    def free_bytes(self) -> int:
        stat = os.statvfs(self.root)
        return stat.f_bavail * stat.f_frsize

    def total_bytes(self) -> int:
        """Of the file system, as far as this user may fill it."""
        stat = os.statvfs(self.root)
        return (stat.f_blocks - stat.f_bfree + stat.f_bavail) * stat.f_frsize

    def lock(self, path: str) -> OsFile:
        """Take `path` for this process alone; raises Unavailable when another process holds it."""
        file = self.open(path, create=True)
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            file.close()
            raise Unavailable(f"{self._path(path)} is in use by another process; stop that one first") from exc
        return file


def _make_folders(path: str) -> None:
    """Make a folder and what is missing above it; what was made is durable. Files inside would be lost with it."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(os.path.abspath(path))
    _make_folders(above)
    with suppress(FileExistsError):
        os.mkdir(path, mode=0o700)
    _sync_folder(above)


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02


_LIBC = ctypes.CDLL(None, use_errno=True)
"""For fallocate, which Python has for one mode only."""


def _punch_hole(fd: int, offset: int, length: int) -> None:
    mode = ctypes.c_int(_FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE)
    if _LIBC.fallocate(ctypes.c_int(fd), mode, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
