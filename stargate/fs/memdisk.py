# SPDX-License-Identifier: Apache-2.0
"""`MemDisk`: a `Disk` in memory that fails on order and can be asked for any state a power cut may legally leave.

What it models, per file: bytes are durable after `fdatasync`; each write and truncation since then is, at a crash,
kept, lost or torn at sectors or pages, whatever became of earlier ones or of other files. A failed `fdatasync` marks
the bytes clean without having stored them, as Linux does: only writing them again can make them durable. Names: a
create, rename or unlink is durable after `sync_dir` of its folder; before that it may be lost, also when the file's
bytes are durable. Folders are durable when `mkdir` returns, which is what `OsDisk` sees to.
"""

from __future__ import annotations

import errno as _errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from stargate.errors import Unavailable
from stargate.fs.disk import Buffer
from stargate.fs.survival import Change, Survival, Way


class Op(NamedTuple):
    """One call in the trace. `offset` and `length` are 0 where the call has none."""

    name: str
    path: str
    offset: int = 0
    length: int = 0


class _Rename(NamedTuple):
    """A name change that is not durable yet; create has no source, unlink no target."""

    source: str | None
    target: str | None
    node: _Node
    order: int = 0


@dataclass(eq=False)
class _Node:
    """One file. `shared`: another disk holds `durable` too, so it is copied before it changes."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)
    shared: bool = False

    def change(self, change: Change) -> None:
        if self.data is self.durable:
            self.data = bytearray(self.data)
        _apply(self.data, change)
        self.pending.append(change)

    def settle(self) -> None:
        if self.pending and self.shared:
            self.durable, self.shared = bytearray(self.durable), False
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()

    def give_up(self, rng: Random | None) -> None:
        """A failed fdatasync: nothing (`rng` None) or anything of the pending changes was stored, and none is tried
        again."""
        pending, self.pending = self.pending, []
        if rng is not None and pending:
            survival = Survival(rng, [change.order for change in pending])
            self.pending = [part for change in pending for part in survival.parts(change, id(self))]
            self.settle()

    def crashed(self, survival: Survival, *, share: bool) -> _Node:
        """What the medium may hold after a power cut."""
        parts = [part for change in self.pending for part in survival.parts(change, id(self))]
        if share and not parts:
            self.shared = True
            return _Node(self.durable, self.durable, shared=True)
        content = bytearray(self.durable)
        for part in parts:
            _apply(content, part)
        return _Node(bytearray(content), content)


def _apply(content: bytearray, change: Change) -> None:
    offset, data, _ = change
    if data is None:
        if offset <= len(content):
            del content[offset:]
        else:
            content.extend(bytes(offset - len(content)))
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class MemDisk:
    """`Disk` in memory.

    `fail_at` N makes the Nth call from now fail with `error`; with `short`, if it is a write, it stores half and says
    so.
    `fail_fsync` makes every `fdatasync` fail until it is set to 0; with `failed_sync` such a call stores some of the
    bytes, else none. `capacity_bytes` None means without end.
    """

    def __init__(self, *, capacity_bytes: int | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.fail_at = 0
        self.error = _errno.EIO
        self.short = False
        self.fail_fsync = 0
        self.failed_sync: Random | None = None
        self.trace: list[Op] = []
        self._guard = threading.RLock()
        self._names: dict[str, _Node] = {}
        self._durable_names: dict[str, _Node] = {}
        self._renames: list[_Rename] = []
        self._order = 0
        self._folders = {""}
        self._locked: set[str] = set()

    # -- faults and crashes

    def _call(self, op: Op) -> bool:
        """Count one call. Raises when it is the one to fail; True when it is to be a short write."""
        self.trace.append(op)
        if self.fail_at:
            self.fail_at -= 1
            if self.fail_at == 0:
                if self.short and op.name == "pwritev":
                    return True
                raise OSError(self.error, os.strerror(self.error), op.path)
        return False

    def crash(self, rng: Random, way: Way | None = None, *, share: bool = False) -> MemDisk:
        """A new disk as a power cut at this moment may leave it; this one stays as it is. `way` None: any.

        With `share` files without surviving changes are kept once for both disks.
        """
        with self._guard:
            after = MemDisk(capacity_bytes=self.capacity_bytes)
            after._folders = set(self._folders)
            survival = Survival(rng, self._unsynced(), way)
            names = dict(self._durable_names)
            for rename in self._renames:
                if survival.keeps_name(rename.order):
                    _rename(names, rename)
            fresh = {id(node): node.crashed(survival, share=share) for node in names.values()}
            after._names = {path: fresh[id(node)] for path, node in names.items()}
            after._durable_names = dict(after._names)
            return after

    def _unsynced(self) -> list[int]:
        """Numbers of all changes that are not durable."""
        nodes = {id(node): node for node in (*self._names.values(), *self._durable_names.values())}
        return [rename.order for rename in self._renames] + [c.order for n in nodes.values() for c in n.pending]

    def _next(self) -> int:
        self._order += 1
        return self._order

    def snapshot(self) -> dict[str, bytes]:
        """Path -> bytes as a reader sees them now; for tests that say "nothing was changed"."""
        with self._guard:
            return {path: bytes(node.data) for path, node in self._names.items()}

    def flip(self, path: str, offset: int, mask: int = 1) -> None:
        """Rot: flip bits of one stored byte, unseen by the engine."""
        node = self._node(path)
        if node.shared or node.data is node.durable:
            node.data, node.durable, node.shared = bytearray(node.data), bytearray(node.durable), False
        node.data[offset] ^= mask
        if offset < len(node.durable):
            node.durable[offset] ^= mask

    # -- Disk

    def _node(self, path: str) -> _Node:
        try:
            return self._names[path]
        except KeyError:
            raise FileNotFoundError(_errno.ENOENT, os.strerror(_errno.ENOENT), path) from None

    def _change_name(self, rename: _Rename) -> None:
        _rename(self._names, rename)
        self._renames.append(rename._replace(order=self._next()))

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> MemFile:
        with self._guard:
            self._call(Op("open", path))
            if create and path not in self._names:
                if os.path.dirname(path) not in self._folders:
                    raise FileNotFoundError(_errno.ENOENT, os.strerror(_errno.ENOENT), path)
                self._change_name(_Rename(None, path, _Node()))
            return MemFile(self, path, self._node(path), read_only)

    def exists(self, path: str) -> bool:
        with self._guard:
            return path in self._names or path in self._folders

    def list(self, path: str) -> list[str]:
        with self._guard:
            self._call(Op("list", path))
            if path not in self._folders:
                raise FileNotFoundError(_errno.ENOENT, os.strerror(_errno.ENOENT), path)
            inside = path + "/" if path else ""
            below = [entry[len(inside) :] for entry in (*self._names, *self._folders) if entry.startswith(inside)]
            return sorted(name for name in below if name and "/" not in name)

    def mkdir(self, path: str) -> None:
        """Folders are durable at once: the engine makes them before any data exists."""
        with self._guard:
            self._call(Op("mkdir", path))
            while path:
                self._folders.add(path)
                path = os.path.dirname(path)

    def rename(self, source: str, target: str) -> None:
        with self._guard:
            self._call(Op("rename", source))
            self._change_name(_Rename(source, target, self._node(source)))

    def unlink(self, path: str) -> None:
        with self._guard:
            self._call(Op("unlink", path))
            self._change_name(_Rename(path, None, self._node(path)))

    def sync_dir(self, path: str) -> None:
        with self._guard:
            self._call(Op("sync_dir", path))
            later = []
            for rename in self._renames:
                if any(name is not None and os.path.dirname(name) == path for name in (rename.source, rename.target)):
                    _rename(self._durable_names, rename)
                else:
                    later.append(rename)
            self._renames = later

    def free_bytes(self) -> int:
        with self._guard:
            return (1 << 62) if self.capacity_bytes is None else max(0, self.capacity_bytes - self._used())

    def total_bytes(self) -> int:
        return (1 << 62) if self.capacity_bytes is None else self.capacity_bytes

    def _used(self) -> int:
        return sum(len(node.data) for node in {id(n): n for n in self._names.values()}.values())

    def _reserve(self, node: _Node, end: int) -> None:
        growth = end - len(node.data)
        if growth > 0 and growth > self.free_bytes():
            raise OSError(_errno.ENOSPC, os.strerror(_errno.ENOSPC))

    def lock(self, path: str) -> MemFile:
        """As `OsDisk.lock`; the lock ends with `close`, or with a crash."""
        with self._guard:
            if path in self._locked:
                raise Unavailable(f"{path} is in use by another process; stop that one first")
            file = self.open(path, create=True)
            self._locked.add(path)
            file.on_close = lambda: self._locked.discard(path)
            return file


def _rename(names: dict[str, _Node], rename: _Rename) -> None:
    """Apply one name change, unless its source never came to be or is another file by now."""
    source, target, node, _ = rename
    if source is not None and names.get(source) is not node:
        return
    if source is not None:
        del names[source]
    if target is not None:
        names[target] = node


class MemFile:
    """`File` of a `MemDisk`."""

    def __init__(self, disk: MemDisk, path: str, node: _Node, read_only: bool) -> None:
        self._disk = disk
        self._path = path
        self._node = node
        self._read_only = read_only
        self._open = True
        self.on_close: Callable[[], None] = lambda: None

    def _enter(self, name: str, offset: int = 0, length: int = 0, *, writes: bool = False) -> bool:
        if not self._open or (writes and self._read_only):
            raise OSError(_errno.EBADF, os.strerror(_errno.EBADF), self._path)
        return self._disk._call(Op(name, self._path, offset, length))

    def pread(self, length: int, offset: int) -> bytes:
        with self._disk._guard:
            self._enter("pread", offset, length)
            return bytes(self._node.data[offset : offset + length])

    def preadv(self, buffers: Sequence[bytearray | memoryview], offset: int) -> int:
        with self._disk._guard:
            self._enter("preadv", offset, sum(len(b) for b in buffers))
            start = offset
            for buffer in buffers:
                part = self._node.data[offset : offset + len(buffer)]
                memoryview(buffer)[: len(part)] = part
                offset += len(part)
            return offset - start

    def warm(self, offset: int, length: int) -> None:
        with self._disk._guard:
            self._enter("warm", offset, length)

    def pwritev(self, buffers: Sequence[Buffer], offset: int) -> int:
        data = b"".join(buffers)
        with self._disk._guard:
            short = self._enter("pwritev", offset, len(data), writes=True)
            self._disk._reserve(self._node, offset + len(data))
            if short:
                data = data[: len(data) // 2]
            self._node.change(Change(offset, data, self._disk._next()))
            return len(data)

    def pass_through(self) -> None:
        """There is no cache."""

    def fdatasync(self) -> None:
        with self._disk._guard:
            try:
                self._enter("fdatasync")
                if self._disk.fail_fsync:
                    raise OSError(self._disk.fail_fsync, os.strerror(self._disk.fail_fsync), self._path)
            except OSError:
                self._node.give_up(self._disk.failed_sync)
                raise
            self._node.settle()

    def size(self) -> int:
        with self._disk._guard:
            return len(self._node.data)

    def first_data(self, offset: int) -> int | None:
        """Zeros count as a hole: a disk may keep them so."""
        with self._disk._guard:
            self._enter("first_data", offset)
            rest = self._node.data[offset:]
            zeros = len(rest) - len(rest.lstrip(b"\0"))
            return None if zeros == len(rest) else offset + zeros

    def is_named(self) -> bool:
        with self._disk._guard:
            return any(node is self._node for node in self._disk._names.values())

    def truncate(self, size: int) -> None:
        with self._disk._guard:
            self._enter("truncate", size, writes=True)
            self._disk._reserve(self._node, size)
            self._node.change(Change(size, None, self._disk._next()))

    def punch(self, offset: int, length: int) -> None:
        with self._disk._guard:
            self._enter("punch", offset, length, writes=True)
            end = min(offset + length, len(self._node.data))
            if end > offset:
                self._node.change(Change(offset, bytes(end - offset), self._disk._next()))

    def fileno(self) -> int:
        raise OSError(_errno.EBADF, "a file in memory has no descriptor", self._path)

    def close(self) -> None:
        if self._open:
            self._open = False
            self.on_close()
