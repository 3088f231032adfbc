# SPDX-License-Identifier: Apache-2.0
"""Whether a received tree is one that the engine can read: the store proves each node alone, only a walk proves that
they fit each other. A tree that does not would stop every later walk over it, also that of the sweep.
"""

from __future__ import annotations

import threading

import numpy as np

from stargate.errors import PeerProtocol
from stargate.extents.format import HASH_BYTES, ZERO_HASH, Kind
from stargate.extents.nodes import PREFIX_BYTES, TreeFormat, parse_node, parse_root, span
from stargate.peer.store_iface import SyncStore

SOUND_MAX = 1 << 18
"""Nodes remembered as sound between walks, about 35 MB: 4 TiB of leaves, of which the next increment reads only the new
ones. A node's hash fixes all that is below it, so what is sound once is so for ever.
"""


class Shapes:
    """Thread-safe; one walk at a time."""

    def __init__(self, store: SyncStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._sound: dict[bytes, tuple[int, int]] = {}

    def check(self, root: bytes) -> TreeFormat:
        """Read every node of the version that was not found sound before; its shape. Raises PeerProtocol for a node of
        another level or fan-out than its place demands, a chunk of another size, content beyond the end; DamagedData.
        What was put must have been flushed.
        """
        shape, top = parse_root(self._store.read_node(root))
        with self._lock:
            self._node(shape, shape.depth - 1, top, shape.chunk_count)
            while len(self._sound) > SOUND_MAX:
                del self._sound[next(iter(self._sound))]
        return shape

    def _node(self, shape: TreeFormat, level: int, digest: bytes, chunks_left: int) -> None:
        """`chunks_left`: from the node's first chunk to the end of the disk."""
        inside = chunks_left >= span(shape.fanout, level)
        if digest == ZERO_HASH or (inside and self._sound.get(digest) == (shape.fanout, shape.chunk_bytes)):
            return
        payload = self._store.read_node(digest)
        if parse_node(payload) != (level, shape.fanout):
            raise PeerProtocol("the other site sent a tree whose nodes do not fit each other", digest.hex())
        below = span(shape.fanout, level - 1) if level else 1
        rows = np.frombuffer(payload, np.uint64, offset=PREFIX_BYTES).reshape(-1, HASH_BYTES // 8)
        used: list[int] = np.flatnonzero(rows.any(axis=1)).tolist()
        if used and used[-1] * below >= chunks_left:
            raise PeerProtocol("the other site sent a tree with content beyond its end", digest.hex())
        children = [payload[at : at + HASH_BYTES] for at in (PREFIX_BYTES + slot * HASH_BYTES for slot in used)]
        if level == 0:
            self._chunks(shape, list(dict.fromkeys(children)))
        else:
            for slot, child in zip(used, children, strict=True):
                self._node(shape, level - 1, child, chunks_left - slot * below)
        if inside:
            self._sound[digest] = shape.fanout, shape.chunk_bytes

    def _chunks(self, shape: TreeFormat, digests: list[bytes]) -> None:
        """A shorter chunk would let what a guest writes into its place end up elsewhere."""
        for digest, location in zip(digests, self._store.index.get_many(digests), strict=True):
            if location is None or (location.kind, location.size_bytes) != (Kind.CHUNK, shape.chunk_bytes):
                raise PeerProtocol("the other site sent a tree over chunks of another size", digest.hex())
