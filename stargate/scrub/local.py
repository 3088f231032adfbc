# SPDX-License-Identifier: Apache-2.0
"""Healing from what this site has itself: a payload whose header rotted, an extent that the index lost."""

from __future__ import annotations

from stargate.errors import DamagedData, PeerProtocol
from stargate.extents import format as ef
from stargate.extents import rebuild
from stargate.extents.store import ExtentStore


def heal(extents: ExtentStore, wanted: set[bytes]) -> set[bytes]:
    """Which of `wanted` are whole again. What was stored anew is durable and indexed when this returns."""
    healed = {digest for digest in sorted(wanted) if is_sound(extents, digest) or _salvage(extents, digest)}
    extents.flush()
    rest = wanted - healed
    if rest:
        with extents.lock:
            healed |= rebuild.find(extents.files, extents.index, extents.store_id, rest, extents.epoch)
            for digest in rest & healed:
                extents.drop_cached(digest)
    healed = {digest for digest in sorted(healed) if is_sound(extents, digest)}
    extents.acquit(healed)
    return healed


def is_sound(extents: ExtentStore, digest: bytes) -> bool:
    """Read anew from the disk and compared with the full hash."""
    try:
        extents.verify(digest)
    except DamagedData:
        return False
    return True


def _salvage(extents: ExtentStore, digest: bytes) -> bool:
    """Only the header or its checksums are damaged: the index knows where the payload lies, the hash proves it."""
    location = extents.index.get(digest)
    if location is None or not 0 < location.stored_bytes <= ef.CHUNK_BYTES_MAX:
        return False
    at = location.offset + ef.HEADER_BYTES + ef.table_bytes(location.stored_bytes)
    try:
        payload = extents.files.read(location.egroup, at, location.stored_bytes)
        extents.put_verified(location.kind, digest, location.codec, payload, location.size_bytes, repair=True)
    except (DamagedData, PeerProtocol):
        return False
    return True
