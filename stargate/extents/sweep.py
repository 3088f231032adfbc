# SPDX-License-Identifier: Apache-2.0
"""Deleting what no root reaches, beside running ingests.

Rank by rank from the roots down, so that a crash at any point leaves no node without its children. An extent that was
asked for or put since the sweep began is kept, and, because presence means a complete subtree, so are its descendants,
which lie in ranks still to come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stargate.extents import format as ef
from stargate.extents import nodes
from stargate.extents.index import Change, Freed, Location

if TYPE_CHECKING:
    from stargate.extents.store import ExtentStore

_BATCH = 1024


def delete(store: ExtentStore, live: Callable[[bytes], bool], epoch: int) -> list[Freed]:
    """Ranges freed. Their deletion is durable; their bytes are still there for readers that located them before."""
    by_rank: dict[int, list[bytes]] = {}
    for digest, location in store.index.items():
        if not live(digest):
            by_rank.setdefault(location.rank, []).append(digest)
    kept: set[bytes] = set()
    freed: list[Freed] = []
    for rank in sorted(by_rank, reverse=True):
        dead = by_rank[rank]
        for at in range(0, len(dead), _BATCH):
            freed += _delete_batch(store, dead[at : at + _BATCH], epoch, kept)
    return freed


def _delete_batch(store: ExtentStore, digests: list[bytes], epoch: int, kept: set[bytes]) -> list[Freed]:
    """Delete one batch in one transaction. Stamps are read again under the lock under which has() and puts set them."""
    with store.lock:
        cut = store.cut(epoch)
        doomed: list[tuple[bytes, Location]] = []
        for digest, location in zip(digests, store.index.get_many(digests), strict=True):
            if location is None:
                continue
            if location.stamp >= cut or digest in kept or store.is_claimed(digest):
                _keep_children(store, digest, location, kept)
            else:
                doomed.append((digest, location))
        freed = [Freed(loc.egroup, loc.offset, ef.extent_bytes(loc.stored_bytes)) for _, loc in doomed]
        store.commit_index(Change(deletes=[digest for digest, _ in doomed], freed=freed))
    return freed


def _keep_children(store: ExtentStore, digest: bytes, location: Location, kept: set[bytes]) -> None:
    if location.kind != ef.Kind.CHUNK:
        kept.update(nodes.children(location.kind, store.read_node(digest)))
