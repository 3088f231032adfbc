# SPDX-License-Identifier: Apache-2.0
"""Raw images in and out of disks, over NBD like any other client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, cast
from uuid import UUID

from dataprotection.models import Snapshot, VirtualDisk
from dataprotection.services import manifest
from prism.core.actor import Actor
from prism.core.engine import engine
from prism.core.exceptions import InvalidInput
from prism.core.services import audit
from stargate.nbd.client import NbdClient

STEP_BYTES = 1 << 20


class _Exactly:
    """A stream cut off at `size_bytes`, that knows whether it gave as many."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self.left = size_bytes

    def read(self, count: int = -1) -> bytes:
        wanted = min(self.left, STEP_BYTES if count < 0 else count)
        parts = []
        while wanted:
            # A socket gives what it has; whole steps keep the writes aligned.
            data = self._stream.read(wanted)
            if not data:
                break
            parts.append(data)
            wanted -= len(data)
            self.left -= len(data)
        return b"".join(parts)


def import_raw(disk: VirtualDisk, stream: BinaryIO, *, size_bytes: int, actor: Actor) -> int:
    """Overwrite the beginning of a disk with a raw image of `size_bytes`; returns them. Larger images are refused."""
    with audit.order(
        "disk.import", actor=actor, object_type="disk", object_name=disk.export_name, atomic=False
    ) as detail:
        detail["size_bytes"] = size_bytes
        if size_bytes > disk.size_bytes:
            raise InvalidInput(
                "size_bytes",
                f"The image has {size_bytes} bytes, the disk only {disk.size_bytes}.",
                "Grow the disk first.",
            )
        return fill(disk, stream, size_bytes=size_bytes)


def fill(disk: VirtualDisk, stream: BinaryIO, *, size_bytes: int) -> int:
    """The same without audit row. Raises InvalidInput when the stream is shorter; durable when it returns."""
    source = _Exactly(stream, size_bytes)
    with NbdClient.unix(engine().nbd_socket, disk.export_name) as nbd:
        done = nbd.copy_in(cast(BinaryIO, source))
    if source.left:
        raise InvalidInput("size_bytes", f"The image ended {source.left} bytes early.", "Send it again.")
    return done


def export_raw(disk: VirtualDisk) -> Iterator[bytes]:
    """The whole disk as it is, in order. For a consistent image export a snapshot's disk."""
    return _read(disk.export_name, disk.size_bytes)


def export_snapshot_disk(snapshot: Snapshot, disk_uuid: UUID | str) -> Iterator[bytes]:
    """A disk as it was at the snapshot; raises InvalidInput when the snapshot does not hold it."""
    for entry in manifest.read(snapshot.manifest).entities:
        for disk in entry.disks:
            if str(disk.uuid) == str(disk_uuid):
                return _read(f"snapshot:{snapshot.uuid}:{disk.uuid}", disk.size_bytes)
    raise InvalidInput("disk", f"Snapshot {snapshot.display_id} does not hold a disk {disk_uuid}.")


def _read(export: str, size_bytes: int) -> Iterator[bytes]:
    with NbdClient.unix(engine().nbd_socket, export) as nbd:
        for offset in range(0, size_bytes, STEP_BYTES):
            yield nbd.read(offset, min(STEP_BYTES, size_bytes - offset))
