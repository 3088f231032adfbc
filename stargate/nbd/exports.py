# SPDX-License-Identifier: Apache-2.0
"""What the NBD server needs from the engine. The engine front implements these; tests use a memory-backed pair.

All methods are called in the server's loop thread only, and none may block on the disk for long: reads of cached data,
appends to the log and dictionary look-ups are fine, an fdatasync is not (see `request_sync` and `durable_fd`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol, TypeAlias

from stargate.errors import StargateError

Buffer: TypeAlias = bytes | bytearray | memoryview

HOLD = inf
"""What `Export.pace` says while there is no room for writes at all."""


class CommitLater(Exception):
    """`Exports.commit` would have to wait for the disk: everything staged is kept."""


@dataclass(slots=True, eq=False)
class ConnInfo:
    """One connection in the transmission phase, as shown to operators; counters are live. `since` is Unix seconds.

    `export_name` is the name the client asked for, which may be an alias of `Export.name`. `client` is the name in its
    certificate, "" without TLS.
    """

    number: int
    peer: str
    export_name: str
    since: float
    client: str = ""
    reads: int = 0
    writes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    flushes: int = 0
    errors: int = 0


class Export(Protocol):
    """One disk as seen by its connections. `size_bytes` and `read_only` are read in every batch: they may change."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...

    @property
    def read_only(self) -> bool: ...

    @property
    def answers_when_durable(self) -> bool:
        """Looked at after each commit: its changes are answered as if all had FUA."""

    def write(self, offset: int, data: memoryview) -> None:
        """Stages a write of any alignment. `data` is valid until `Exports.commit` returns.

        A StargateError fails this request alone."""

    def zero(self, offset: int, length: int, punch: bool) -> None:
        """Stages zeroes; `punch` allows (never demands) that the range becomes a hole."""

    def read(self, offset: int, length: int) -> Sequence[Buffer]:
        """The bytes, in order, as private or pinned buffers (of single bytes) that never change.

        Staged writes of the same batch may or may not be in them. Raises DamagedData (EIO to the client)
        or another StargateError."""

    def read_later(self, offset: int, length: int) -> Callable[[], Sequence[Buffer]] | None:
        """As `read`, by a function that another thread calls: for what no write and no drain can move. None: only
        `read` will do. Whatever the function raises, `read` is asked then."""

    def extents(self, offset: int, length: int) -> list[tuple[int, int]]:
        """(length, STATE_HOLE | STATE_ZERO) in order, from `offset`; may be shorter than asked, never empty."""

    def pace(self) -> float:
        """Seconds for which a connection that just wrote here should not be read from; 0.0 normally. HOLD: until it is
        no longer said."""


class Exports(Protocol):
    """All disks behind one server and the log they share."""

    @property
    def durable_fd(self) -> int:
        """An eventfd, readable when `durable` advanced or the log froze. The server reads it empty."""

    def lookup(self, name: str) -> Export:
        """Raises NotFound or ExportDown."""

    def names(self) -> list[str]:
        """What LIST shows."""

    def commit(self) -> int:
        """Appends everything staged, by all exports, with one vectored write; with nothing staged it only looks.

        Returns the position that a FLUSH received now must wait for. On a StargateError nothing staged is kept, and all
        of it is answered with that error. Whenever it returns, `committed` follows. Raises CommitLater with everything
        staged kept, also beyond the life of the buffers it came in: to be called again when `durable_fd` is readable.
        """

    def committed(self) -> None:
        """Does what nobody waits for, after those who could be answered at once have been, and before anything else."""

    def durable(self) -> int:
        """Everything below this position survives a crash."""

    def request_sync(self, position: int) -> None:
        """Asks the sync thread for an fdatasync that covers `position`; returns at once."""

    def sync_alone(self) -> bool:
        """Waits for an fdatasync, when the server has nobody else to serve meanwhile. False: not done, and
        `request_sync` is wanted. `synced_alone` is called once who waited has been answered."""

    def synced_alone(self) -> None:
        """May do what belongs to a sync and nobody waits for."""

    def sync_error(self) -> StargateError | None:
        """Set for ever when an fdatasync failed: every waiting and later FLUSH gets its errno."""

    def opened(self, conn: ConnInfo, export: Export) -> None:
        """A client entered the transmission phase. A StargateError disconnects it."""

    def closed(self, conn: ConnInfo) -> None:
        """Called once for each `opened` that returned."""
