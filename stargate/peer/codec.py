# SPDX-License-Identifier: Apache-2.0
"""Packing for the wire. Unpacking is `stargate.extents.format.decode`, bounded by the size that the item declares."""

from __future__ import annotations

import zstandard

from stargate.extents.format import Codec, Kind
from stargate.peer.frame import Buffer
from stargate.peer.store_iface import PackedChunk
from stargate.peer.wire import Item

_ZSTD_LEVEL = 1
_WORTH_SAVING = 8
"""zstd must save at least 1/8, else the receiver's time is worth more than the link's."""


class Packer:
    """The sender's side; one per thread (a zstd context is not shared)."""

    def __init__(self, compress: bool) -> None:
        self._zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL) if compress else None

    def chunk(self, name: bytes, stored: PackedChunk) -> Item:
        """As stored, or zstd when it is stored raw and that pays."""
        return self._item(Kind.CHUNK, name, Codec(stored.codec), stored.usize, stored.payload)

    def node(self, kind: Kind, name: bytes, payload: bytes) -> Item:
        """Nodes of sparse trees are mostly holes and pack well."""
        return self._item(kind, name, Codec.RAW, len(payload), payload)

    def _item(self, kind: Kind, name: bytes, codec: Codec, usize: int, payload: Buffer) -> Item:
        if self._zstd is not None and codec is Codec.RAW:
            packed = self._zstd.compress(payload)
            if len(packed) <= usize - usize // _WORTH_SAVING:
                return Item(kind, name, Codec.ZSTD, usize, packed)
        return Item(kind, name, codec, usize, payload)
