# SPDX-License-Identifier: Apache-2.0
"""What replication needs of the content-addressed store; both ends use it, and nothing else of the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from stargate.extents.format import Kind
from stargate.peer.frame import Buffer


class PackedChunk(NamedTuple):
    """A chunk as it is stored: `usize` bytes packed by `codec` (of stargate.extents.format)."""

    codec: int
    usize: int
    payload: Buffer


class SyncStore(Protocol):
    """Thread-safe. A node is present only with its complete subtree: `put_node` refuses one whose children are not here."""

    def has(self, names: Sequence[bytes]) -> list[bool]:
        """Which are here. What is answered yes stays while a grant is open: the sweep learns of it by this call."""
        ...

    def packed(self, name: bytes) -> PackedChunk:
        """A chunk as stored, its checksums verified; raises DamagedData."""
        ...

    def read_node(self, name: bytes) -> bytes:
        """Payload of a node or root (stargate.extents.nodes), verified; raises DamagedData."""
        ...

    def put_chunk(self, name: bytes, chunk: PackedChunk) -> None:
        """Unpack (never beyond `usize`), verify the hash, store. Raises DamagedData for a lie, NoSpace."""
        ...

    def put_node(self, kind: Kind, name: bytes, payload: bytes) -> None:
        """Verify and store; raises DamagedData for a lie, MissingChild, NoSpace."""
        ...

    def flush(self) -> None:
        """Everything put before is durable when this returns."""
        ...
