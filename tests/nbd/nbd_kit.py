# SPDX-License-Identifier: Apache-2.0
"""Exports over memory with a fake log: changes apply at commit, a sync thread moves `durable`, faults to order."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from stargate.errors import LogFrozen, NotFound, StargateError
from stargate.nbd.exports import Buffer, ConnInfo, Export
from stargate.nbd.server import NbdServer
from stargate.nbd.tls import TlsPolicy

BLOCK = 4096


class MemoryExport:
    def __init__(self, name: str, size_bytes: int) -> None:
        self.name = name
        self.description = f"test disk {name}"
        self.size_bytes = size_bytes
        self.read_only = False
        self.answers_when_durable = False
        self.content = bytearray(size_bytes)
        self.written_blocks: set[int] = set()
        self.staged: list[partial[None]] = []
        self.staged_lengths: list[int] = []
        self.read_error: StargateError | None = None
        self.write_error: Exception | None = None
        self.delay = 0.0

    def write(self, offset: int, data: memoryview) -> None:
        if self.write_error is not None:
            raise self.write_error
        self.staged.append(partial(self._apply, offset, data))
        self.staged_lengths.append(len(data))

    def _apply(self, offset: int, data: memoryview) -> None:
        self.content[offset : offset + len(data)] = data
        self.written_blocks.update(range(offset // BLOCK, -(-(offset + len(data)) // BLOCK)))

    def zero(self, offset: int, length: int, punch: bool) -> None:
        self.staged.append(partial(self._apply_zero, offset, length, punch))

    def keep(self) -> None:
        """What is staged no longer refers to the buffers it came in."""
        own = [[bytes(arg) if isinstance(arg, memoryview) else arg for arg in change.args] for change in self.staged]
        self.staged = [partial(change.func, *args) for change, args in zip(self.staged, own, strict=True)]

    def _apply_zero(self, offset: int, length: int, punch: bool) -> None:
        self.content[offset : offset + length] = bytes(length)
        if punch:
            self.written_blocks.difference_update(range(-(-offset // BLOCK), (offset + length) // BLOCK))

    def read(self, offset: int, length: int) -> Sequence[Buffer]:
        if self.read_error is not None:
            raise self.read_error
        middle = offset + length // 2
        return [bytes(self.content[offset:middle]), bytes(self.content[middle : offset + length])]

    def read_later(self, offset: int, length: int) -> Callable[[], Sequence[Buffer]] | None:
        return None

    def extents(self, offset: int, length: int) -> list[tuple[int, int]]:
        found = []
        at = offset
        while at < offset + length:
            end = min((at // BLOCK + 1) * BLOCK, offset + length)
            found.append((end - at, 0 if at // BLOCK in self.written_blocks else 3))
            at = end
        return found

    def pace(self) -> float:
        return self.delay


class MemoryExports:
    """`hold()` keeps the sync thread from finishing; `freeze()` fails it."""

    def __init__(self, *exports: MemoryExport) -> None:
        self.exports = {export.name: export for export in exports}
        self.durable_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.position = 0
        self.commits = 0
        self.commit_error: StargateError | None = None
        self.commit_error_once = False
        self.lookup_error: StargateError | None = None
        self.open_now: list[ConnInfo] = []
        self.synced = 0
        self._durable = 0
        self._frozen: StargateError | None = None
        self._wanted = 0
        self._held = False
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._sync, daemon=True)
        self._thread.start()

    def _sync(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._ended or (self._wanted > self._durable and not self._held and self._frozen is None)
                )
                if self._ended:
                    return
                self._durable = self.position  # as an fdatasync that starts now would cover
                self.synced += 1
            os.eventfd_write(self.durable_fd, 1)

    def hold(self, held: bool) -> None:
        with self._changed:
            self._held = held
            self._changed.notify_all()

    def freeze(self) -> None:
        with self._changed:
            self._frozen = LogFrozen("the log is frozen")
        os.eventfd_write(self.durable_fd, 1)

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(10)
        os.close(self.durable_fd)

    def lookup(self, name: str) -> Export:
        if self.lookup_error is not None:
            raise self.lookup_error
        if name not in self.exports:
            raise NotFound(f"there is no export {name!r}")
        return self.exports[name]

    def names(self) -> list[str]:
        return list(self.exports)

    def commit(self) -> int:
        self.commits += 1
        for export in self.exports.values():
            staged, export.staged = export.staged, []
            if self.commit_error is not None:
                continue
            for apply in staged:
                apply()
                self.position += 1
        if self.commit_error is not None:
            error = self.commit_error
            if self.commit_error_once:
                self.commit_error = None
            raise error
        return self.position

    def committed(self) -> None:
        """`commit` has done it all."""

    def durable(self) -> int:
        return self._durable

    def request_sync(self, position: int) -> None:
        with self._changed:
            self._wanted = max(self._wanted, position)
            self._changed.notify_all()

    def sync_alone(self) -> bool:
        return False

    def synced_alone(self) -> None:
        """Never after `sync_alone` said no."""

    def sync_error(self) -> StargateError | None:
        return self._frozen

    def opened(self, conn: ConnInfo, export: Export) -> None:
        self.open_now.append(conn)

    def closed(self, conn: ConnInfo) -> None:
        self.open_now.remove(conn)


class Running:
    """A server in a thread, on a unix socket and a TCP port."""

    def __init__(
        self,
        exports: MemoryExports,
        path: str,
        *,
        max_connections: int = 512,
        tls: TlsPolicy | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.exports = exports
        self.path = path
        self.server = NbdServer(exports, max_connections=max_connections, tls=tls)
        self.port = self.server.listen_tcp(address, 0)
        self.server.listen_unix(path)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()

    def in_loop(self) -> None:
        """Returns when the loop has gone round once after this call."""
        done = threading.Event()
        self.server.call_soon(done.set)
        if not done.wait(10):
            raise TimeoutError("the NBD loop does not turn")

    @property
    def uri(self) -> str:
        return f"nbd+unix:///disk?socket={self.path}"


@contextmanager
def running(
    path: str,
    *exports: MemoryExport,
    max_connections: int = 512,
    tls: TlsPolicy | None = None,
    address: str = "127.0.0.1",
) -> Iterator[Running]:
    with running_with(MemoryExports(*exports), path, max_connections=max_connections, tls=tls, address=address) as made:
        yield made


@contextmanager
def running_with(
    memory: MemoryExports,
    path: str,
    *,
    max_connections: int = 512,
    tls: TlsPolicy | None = None,
    address: str = "127.0.0.1",
) -> Iterator[Running]:
    server = Running(memory, path, max_connections=max_connections, tls=tls, address=address)
    try:
        yield server
    finally:
        server.server.stop()
        server.thread.join(15)
        alive = server.thread.is_alive()
        memory.end()
        if alive:
            raise TimeoutError("the NBD server did not stop")


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Polls until `condition` holds; TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what the test waits for does not happen")
        time.sleep(0.002)
