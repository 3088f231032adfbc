# SPDX-License-Identifier: Apache-2.0
"""Reading back for a peer's repair: places of trees that both sites share, nothing else (docs/design/0006).

A peer names a root it shares with us and walks our copy of that very tree; a root commits to everything below it, so
it can learn only what it had. Each answer is bounded by one frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stargate.errors import DamagedData, PeerProtocol, PeerRefused
from stargate.extents.format import HASH_BYTES, ZERO_HASH, Codec, Kind
from stargate.extents.nodes import PREFIX_BYTES, TreeFormat, parse_root
from stargate.peer.frame import PUT_BYTES_MAX
from stargate.peer.items import RANK_ROOT, Fetch, Item, Items, Place
from stargate.peer.store_iface import SyncStore


class ReadBack:
    """`shares(site, root)`: whether that site sent us a snapshot of this tree, or got one from us."""

    def __init__(self, store: SyncStore, shares: Callable[[str, bytes], bool]) -> None:
        self._store = store
        self._shares = shares

    def fetch(self, site_id: str, wanted: Fetch) -> Items:
        """What is whole here, in the order asked for, up to one frame. Raises PeerRefused, PeerProtocol."""
        if not self._shares(site_id, wanted.root):
            raise PeerRefused("this site shares no such snapshot with yours")
        try:
            shape, top = parse_root(self._store.read_node(wanted.root))
        except DamagedData:
            return Items([])
        return Items(self._collect(wanted, shape, top))

    def _collect(self, wanted: Fetch, shape: TreeFormat, top: bytes) -> Sequence[Item]:
        items: list[Item] = []
        room = PUT_BYTES_MAX
        for place in wanted.places:
            item = self._item(wanted.root, shape, top, place)
            if item is None:
                continue
            room -= len(item.payload)
            if room < 0:
                break
            items.append(item)
        return items

    def _item(self, root: bytes, shape: TreeFormat, top: bytes, place: Place) -> Item | None:
        """None: a hole, or not whole here either."""
        try:
            digest = root if place.rank == RANK_ROOT else self._descend(shape, top, place)
            if digest == ZERO_HASH:
                return None
            codec, payload, size_bytes = self._store.raw(digest)
            found = self._store.index.get_many([digest])[0]
        except DamagedData:
            return None
        return None if found is None else Item(Kind(found.kind), digest, Codec(codec), size_bytes, payload)

    def _descend(self, shape: TreeFormat, top: bytes, place: Place) -> bytes:
        rank, number = place
        if rank > shape.depth or not 0 <= number < shape.fanout ** (shape.depth - rank):
            raise PeerProtocol("the other site asks for a place that its tree does not have", f"{rank}:{number}")
        digest = top
        for above in range(shape.depth, rank, -1):
            if digest == ZERO_HASH:
                return ZERO_HASH
            slot = number // shape.fanout ** (above - 1 - rank) % shape.fanout
            at = PREFIX_BYTES + slot * HASH_BYTES
            digest = self._store.read_node(digest)[at : at + HASH_BYTES]
        return digest
