# SPDX-License-Identifier: Apache-2.0
"""One step down a tree: a node read and checked against the place where it stands."""

from __future__ import annotations

from stargate.errors import DamagedData
from stargate.extents import nodes
from stargate.extents.nodes import PREFIX_BYTES, TreeFormat
from stargate.extents.reader import ExtentReader


def open_root(store: ExtentReader, root: bytes) -> tuple[TreeFormat, bytes]:
    """Shape and top hash of a version. Raises DamagedData, MissingExtent."""
    return nodes.parse_root(store.read_node(root))


def entries_of(store: ExtentReader, digest: bytes, level: int, fanout: int) -> bytes:
    """The child hashes of a node, which must be of this level and fan-out. Raises DamagedData, MissingExtent."""
    payload = store.read_node(digest)
    if nodes.parse_node(payload) != (level, fanout):
        raise DamagedData(f"node {digest.hex()} stands at level {level} of a tree it was not made for")
    return payload[PREFIX_BYTES:]
