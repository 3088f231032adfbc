# SPDX-License-Identifier: Apache-2.0
"""What replication needs of the content-addressed store, on either end. `stargate.extents.store.ExtentStore` is one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from stargate.extents.index import Index


class SyncStore(Protocol):
    """Thread-safe. A node is present only with its complete subtree: one whose children are not here is refused."""

    @property
    def index(self) -> Index:
        """Where what is here stands, with its kind and size."""
        ...

    def has(self, digests: Sequence[bytes]) -> list[bool]:
        """Which are here and were flushed. What is answered yes inside a `hold` stays until the hold ends."""
        ...

    def raw(self, digest: bytes) -> tuple[int, bytes, int]:
        """(codec, payload, size_bytes) as stored, checksums verified; raises DamagedData."""
        ...

    def read_node(self, digest: bytes) -> bytes:
        """Payload of a node or root (stargate.extents.nodes), verified; raises DamagedData."""
        ...

    def put_verified(self, kind: int, digest: bytes, codec: int, payload: bytes, size_bytes: int) -> None:
        """Store what a peer sent, all checked. Raises PeerProtocol (a lie), MissingChild, NoSpace, Unavailable."""
        ...

    def flush(self) -> None:
        """Everything put before is durable and visible when this returns."""
        ...

    def hold(self) -> AbstractContextManager[None]:
        """Around an ingest: no sweep takes what was put or asked for inside."""
        ...
