# SPDX-License-Identifier: Apache-2.0
"""An NBD server over a piece of memory, for measuring and profiling `stargate.nbd` alone: commit and sync do nothing.

    python bench/nbd_server.py --unix /tmp/bench.sock --size-mib 1024 [--profile out.prof]

The export is called `bench`. Ends on SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import cProfile
import mmap
import os
import signal
from collections.abc import Sequence

from stargate.errors import NotFound, StargateError
from stargate.nbd.exports import Buffer, ConnInfo, Export
from stargate.nbd.server import NbdServer
from stargate.units import MiB


class MemoryExport:
    """Bytes in an anonymous map; writes are applied when they are staged."""

    name = "bench"
    description = "memory without a log"
    read_only = False
    answers_when_durable = False

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._bytes = memoryview(mmap.mmap(-1, size_bytes))

    def write(self, offset: int, data: memoryview) -> None:
        self._bytes[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int, punch: bool) -> None:
        self._bytes[offset : offset + length] = bytes(length)

    def read(self, offset: int, length: int) -> Sequence[Buffer]:
        return (self._bytes[offset : offset + length],)

    def read_later(self, offset: int, length: int) -> None:
        """Never: it is memory."""

    def extents(self, offset: int, length: int) -> list[tuple[int, int]]:
        return [(length, 0)]

    def pace(self) -> float:
        return 0.0


class MemoryExports:
    """One export; everything is durable at once."""

    def __init__(self, export: MemoryExport) -> None:
        self._export = export
        self.durable_fd = os.eventfd(0, os.EFD_NONBLOCK)

    def lookup(self, name: str) -> Export:
        if name not in ("", self._export.name):
            raise NotFound(f"no export {name}")
        return self._export

    def names(self) -> list[str]:
        return [self._export.name]

    def commit(self) -> int:
        return 0

    def committed(self) -> None:
        """`commit` has done it all."""

    def durable(self) -> int:
        return 0

    def request_sync(self, position: int) -> None:
        """Never needed: `durable` covers every position."""

    def sync_alone(self) -> bool:
        return False

    def synced_alone(self) -> None:
        """Never after `sync_alone` said no."""

    def sync_error(self) -> StargateError | None:
        return None

    def opened(self, conn: ConnInfo, export: Export) -> None:
        """Nothing to note."""

    def closed(self, conn: ConnInfo) -> None:
        """Nothing to note."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--unix", help="path of a unix socket")
    parser.add_argument("--port", type=int, help="TCP port on 127.0.0.1")
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--no-spin", action="store_true", help="never poll without sleeping")
    parser.add_argument("--profile", help="write a cProfile of the loop to this file")
    args = parser.parse_args()
    server = NbdServer(MemoryExports(MemoryExport(args.size_mib * MiB)), spin=not args.no_spin)
    if args.unix:
        server.listen_unix(args.unix)
    if args.port is not None:
        server.listen_tcp("127.0.0.1", args.port)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    if args.profile:
        profile = cProfile.Profile()
        profile.runcall(server.run)
        profile.dump_stats(args.profile)
    else:
        server.run()


if __name__ == "__main__":
    main()
