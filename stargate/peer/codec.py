# SPDX-License-Identifier: Apache-2.0
"""Packing for the wire, ahead of the walk and in threads of its own. Unpacking is the store's: it knows every bound."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self

import zstandard

from stargate.extents.format import Codec, Kind
from stargate.peer.frame import Buffer
from stargate.peer.store_iface import SyncStore
from stargate.peer.wire import Item
from stargate.units import KiB

PACK_THREADS = max(1, min(4, (os.cpu_count() or 1) - 1))
"""Of one job. Reading, hashing, packing and TLS hold no interpreter lock, so that they really run beside the walk; one
core is left to the guests."""

GROUP_BYTES = 512 * KiB
"""Uncompressed bytes that a thread takes at once."""

GROUPS_AHEAD = 8
"""Groups being packed or waiting for their turn: with one being filled 4.5 MiB of memory (9 for chunks of 1 MiB)."""

_ZSTD_LEVEL = 1
_WORTH_SAVING = 8
"""zstd must save at least 1/8, else the receiver's time is worth more than the link's."""


class _Wanted(NamedTuple):
    """An item to be made. `payload` None: a chunk, to be read."""

    kind: Kind
    name: bytes
    payload: bytes | None
    guest_bytes: int


class _Own(threading.local):
    """Of each thread: a zstd context is not shared."""

    def __init__(self) -> None:
        self.zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)


class Packing:
    """Items in the order in which they were asked for. `take` gets each with its guest bytes, in the caller's thread.

    With `threads` 0 everything happens in the caller's thread. Whatever reading a chunk raises comes out of `chunk`,
    `node` or `flush`. Use as a context: its end waits for the threads.
    """

    def __init__(self, store: SyncStore, take: Callable[[Item, int], None], *, compress: bool, threads: int) -> None:
        self._store = store
        self._take = take
        self._compress = compress
        self._own = _Own()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sync-pack") if threads else None
        self._group: list[_Wanted] = []
        self._group_bytes = 0
        self._ahead: deque[Future[list[tuple[Item, int]]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def chunk(self, name: bytes, size_bytes: int, guest_bytes: int) -> None:
        """A chunk of the store, which stands for `guest_bytes` of progress."""
        self._add(_Wanted(Kind.CHUNK, name, None, guest_bytes), size_bytes)

    def node(self, kind: Kind, name: bytes, payload: bytes) -> None:
        self._add(_Wanted(kind, name, payload, 0), len(payload))

    def flush(self) -> None:
        """Everything asked for has been taken when this returns."""
        self._submit()
        while self._ahead:
            self._hand_over()

    def _add(self, wanted: _Wanted, size_bytes: int) -> None:
        self._group.append(wanted)
        self._group_bytes += size_bytes
        if self._group_bytes >= GROUP_BYTES:
            self._submit()

    def _submit(self) -> None:
        group, self._group, self._group_bytes = self._group, [], 0
        if not group:
            return
        if self._pool is None:
            for item, guest_bytes in self._pack(group):
                self._take(item, guest_bytes)
            return
        self._ahead.append(self._pool.submit(self._pack, group))
        while len(self._ahead) > GROUPS_AHEAD or (self._ahead and self._ahead[0].done()):
            self._hand_over()

    def _hand_over(self) -> None:
        for item, guest_bytes in self._ahead.popleft().result():
            self._take(item, guest_bytes)

    def _pack(self, group: list[_Wanted]) -> list[tuple[Item, int]]:
        return [(self._item(wanted), wanted.guest_bytes) for wanted in group]

    def _item(self, wanted: _Wanted) -> Item:
        """As stored, or zstd when it is stored raw and that pays (it does for nodes of sparse trees)."""
        payload: Buffer
        if wanted.payload is None:
            codec, payload, usize = self._store.raw(wanted.name)
        else:
            codec, payload, usize = int(Codec.RAW), wanted.payload, len(wanted.payload)
        if self._compress and codec == Codec.RAW:
            packed = self._own.zstd.compress(payload)
            if len(packed) <= usize - usize // _WORTH_SAVING:
                return Item(wanted.kind, wanted.name, Codec.ZSTD, usize, packed)
        return Item(wanted.kind, wanted.name, Codec(codec), usize, payload)
