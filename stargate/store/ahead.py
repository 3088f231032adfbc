# SPDX-License-Identifier: Apache-2.0
"""What goes to a peer while its snapshot is still being drained and folded: the whole chunks of each drain window.

The store does not know a snapshot before the drain has met its marker, so the order names the disks. Whatever the
catalog says of their open epochs by then is older than the marker. A chunk that a later window replaces travels for
nothing; the blocks that the fold makes chunks of, and all nodes, are left to the job.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from stargate.catalog.state import BatchRef, Epoch
from stargate.errors import DamagedData
from stargate.extents.format import ZERO_HASH
from stargate.hot.format import HotTable
from stargate.peer.client import PeerClient
from stargate.peer.early import EarlySender
from stargate.peer.link import BEAT_SECONDS
from stargate.store.hub import CatalogHub

CHUNKS_MAX = 1 << 18
"""Of one job, each place of a disk once: as many as open epochs have before they are folded (`worker`)."""


class Windows:
    """The chunks of drain windows, as the catalog names them, until the snapshot has its trees or `stop`."""

    def __init__(
        self, hub: CatalogHub, read_table: Callable[[BatchRef], HotTable], snapshot: str, disks: Sequence[str]
    ) -> None:
        self._hub = hub
        self._read_table = read_table
        self._snapshot = snapshot
        self._disks = disks
        self._stopped = False
        self._fresh: list[tuple[str, Epoch, BatchRef]] = []
        self._taken: dict[str, int] = {}  # epoch -> batches looked at
        self._sent: set[bytes] = set()
        self._places: set[tuple[str, int]] = set()

    def stop(self) -> None:
        with self._hub.changed:
            self._stopped = True
            self._hub.changed.notify_all()

    def __iter__(self) -> Iterator[list[tuple[bytes, int]]]:
        """(name, size) of each chunk once; an empty list every few seconds without any."""
        while len(self._places) < CHUNKS_MAX:
            with self._hub.changed:
                self._hub.changed.wait_for(lambda: self._ended() or self._look(), BEAT_SECONDS)
                if self._ended():
                    return
                fresh, self._fresh = self._fresh, []
            try:
                yield [chunk for disk, epoch, ref in fresh for chunk in self._chunks(disk, epoch, ref)]
            except (DamagedData, OSError):  # folded meanwhile, or a matter for the fold
                return

    def _ended(self) -> bool:
        found = self._hub.state.snapshots.get(self._snapshot)
        return self._stopped or (found is not None and self._hub.state.snapshot_state(found) == "rooted")

    def _look(self) -> bool:
        """Whether the catalog names more than was yielded. Under the hub's lock."""
        state = self._hub.state
        found = state.snapshots.get(self._snapshot)
        if found is not None:
            tops = [(member.disk, member.epoch) for member in found.members]
        else:
            tops = [(disk, state.vdisks[disk].head) for disk in self._disks if disk in state.vdisks]
        for disk, top in tops:
            for epoch in self._unfolded(top):
                self._fresh += [(disk, epoch, ref) for ref in epoch.batches[self._taken.get(epoch.epoch, 0) :]]
                self._taken[epoch.epoch] = len(epoch.batches)
        return bool(self._fresh)

    def _unfolded(self, top: str) -> list[Epoch]:
        """From the oldest one that has no tree."""
        chain: list[Epoch] = []
        at: str | None = top
        while at is not None and (epoch := self._hub.state.epochs.get(at)) is not None and epoch.root is None:
            chain.append(epoch)
            at = epoch.parent
        return chain[::-1]

    def _chunks(self, disk: str, epoch: Epoch, ref: BatchRef) -> Iterator[tuple[bytes, int]]:
        for index, name in self._read_table(ref).chunks:
            if name != ZERO_HASH and name not in self._sent and (disk, index) not in self._places:
                self._sent.add(name)
                self._places.add((disk, index))
                yield name, epoch.chunk_bytes


class Ahead:
    """Around the wait for the fold: a thread that delivers `windows` meanwhile. Its end waits for what is under way."""

    def __init__(self, sender: EarlySender, connect: Callable[[], PeerClient], windows: Windows) -> None:
        self.sender = sender
        self._windows = windows
        self._thread = threading.Thread(target=sender.run, args=(connect, windows), name="sync-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._windows.stop()
        self._thread.join()

    def cancel(self) -> None:
        self._windows.stop()
        self.sender.cancel()
