# SPDX-License-Identifier: Apache-2.0
"""Trees as the sender walks them: a version beside the base that the peer has, slot by slot."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stargate.errors import DamagedData, InvalidArgument
from stargate.extents import nodes
from stargate.extents.format import HASH_BYTES, ZERO_HASH
from stargate.peer.store_iface import SyncStore


class Slot(NamedTuple):
    """A node of the version at its place: first guest byte, and the base's node at the same place (ZERO_HASH: none)."""

    digest: bytes
    start_bytes: int
    base: bytes


class OpenNode(NamedTuple):
    """A node read: its payload, its children and, slot by slot, those of the base."""

    slot: Slot
    payload: bytes
    children: list[bytes]
    base_children: list[bytes]


class Version:
    """One tree of the store, with an optional base tree of the same chunk size and fan-out. Raises DamagedData,
    InvalidArgument.
    """

    def __init__(self, store: SyncStore, root: bytes, base_root: bytes | None = None) -> None:
        self._store = store
        self.root = root
        self.root_payload = store.read_node(root)
        self.format, self.top = nodes.parse_root(self.root_payload)
        self.base_root = base_root
        self._base_depth = self.format.depth
        self.base_top = ZERO_HASH if base_root is None else self._open_base(base_root)

    def _open_base(self, base_root: bytes) -> bytes:
        """The base's node that stands where our top stands, for trees of different depth too."""
        base, top = nodes.parse_root(self._store.read_node(base_root))
        if (base.chunk_bytes, base.fanout) != (self.format.chunk_bytes, self.format.fanout):
            raise InvalidArgument("the base version has another chunk size or fan-out and cannot serve as a base")
        self._base_depth = base.depth
        for level in range(base.depth - 1, self.format.depth - 1, -1):
            top = top if top == ZERO_HASH else self._entries(top, level)[:HASH_BYTES]
        return top

    def _entries(self, digest: bytes, level: int) -> bytes:
        payload = self._store.read_node(digest)
        if nodes.parse_node(payload) != (level, self.format.fanout):
            raise DamagedData(f"node {digest.hex()} stands at level {level} of a tree it was not made for")
        return payload[nodes.PREFIX_BYTES :]

    def _base_entries(self, digest: bytes, level: int) -> bytes:
        if digest == ZERO_HASH:
            return bytes(self.format.fanout * HASH_BYTES)
        if level >= self._base_depth:
            return digest.ljust(self.format.fanout * HASH_BYTES, b"\0")
        return self._entries(digest, level)

    def open(self, slot: Slot, level: int) -> OpenNode:
        """Read the node of a slot."""
        entries = self._entries(slot.digest, level)
        payload = self._store.read_node(slot.digest)
        return OpenNode(slot, payload, _split(entries), _split(self._base_entries(slot.base, level)))

    def span_bytes(self, level: int) -> int:
        """Guest bytes under a node of `level`; -1 = a chunk."""
        return self.format.chunk_bytes * (nodes.span(self.format.fanout, level) if level >= 0 else 1)

    def guest_bytes(self, start_bytes: int, level: int) -> int:
        """Guest bytes of a node at its place, cut off at the end of the disk."""
        return max(0, min(self.format.size_bytes - start_bytes, self.span_bytes(level)))

    def changed_chunks(self) -> int:
        """Chunks that hold data and differ from the base at their place: what a peer with the base alone would have to
        get.
        """
        return self._changed(self.top, self.base_top, self.format.depth - 1)

    def _changed(self, digest: bytes, base: bytes, level: int) -> int:
        if digest in (base, ZERO_HASH):
            return 0
        ours = np.frombuffer(self._entries(digest, level), dtype=np.uint64).reshape(-1, HASH_BYTES // 8)
        theirs = np.frombuffer(self._base_entries(base, level), dtype=np.uint64).reshape(-1, HASH_BYTES // 8)
        differ = (ours != theirs).any(axis=1) & ours.any(axis=1)
        if level == 0:
            return int(differ.sum())
        return sum(self._changed(ours[i].tobytes(), theirs[i].tobytes(), level - 1) for i in np.flatnonzero(differ))


def _split(entries: bytes) -> list[bytes]:
    return [entries[at : at + HASH_BYTES] for at in range(0, len(entries), HASH_BYTES)]
