# SPDX-License-Identifier: Apache-2.0
"""Packing for the wire. Unpacking is the store's: it knows every bound."""

from __future__ import annotations

import zstandard

from stargate.extents.format import Codec, Kind
from stargate.peer.frame import Buffer
from stargate.peer.wire import Item

_ZSTD_LEVEL = 1
_WORTH_SAVING = 8
"""zstd must save at least 1/8, else the receiver's time is worth more than the link's."""


class Packer:
    """The sender's side; one per thread (a zstd context is not shared)."""

    def __init__(self, compress: bool) -> None:
        self._zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL) if compress else None

    def item(self, kind: Kind, name: bytes, codec: int, payload: Buffer, usize: int) -> Item:
        """As stored, or zstd when it is stored raw and that pays (it does for nodes of sparse trees)."""
        if self._zstd is not None and codec == Codec.RAW:
            packed = self._zstd.compress(payload)
            if len(packed) <= usize - usize // _WORTH_SAVING:
                return Item(kind, name, Codec.ZSTD, usize, packed)
        return Item(kind, name, Codec(codec), usize, payload)
