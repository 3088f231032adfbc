# SPDX-License-Identifier: Apache-2.0
"""The note of the last durable position: `oplog/durable`.

The last batches of a log have no successor that says they were durable. Without this note they look like a torn tail
when they rot, and acknowledged writes would be cut off silently. It is written behind each sync and never synced
itself: it may be older than the log, never ahead of it.
"""

from __future__ import annotations

import logging
import struct

from crc32c import crc32c

from stargate.fs.disk import Disk, File

log = logging.getLogger(__name__)

NOTE_MAGIC = b"PRISMDUR"
NOTE = struct.Struct("<8sQI")


def parse_note(raw: bytes, log_id: bytes) -> int:
    """The position that the note of the log with this id names; 0 when it is missing, torn or damaged."""
    return _parse(raw, crc32c(log_id))


def _parse(raw: bytes, seed: int) -> int:
    if len(raw) != NOTE.size or raw[: len(NOTE_MAGIC)] != NOTE_MAGIC:
        return 0
    _, position, crc = NOTE.unpack(raw)
    return int(position) if crc32c(raw[:-4], seed) == crc else 0


class DurableNote:
    """Of the log in `path` with this id. One thread at a time."""

    def __init__(self, disk: Disk, path: str, log_id: bytes) -> None:
        self._disk = disk
        self._path = f"{path}/durable"
        self._seed = crc32c(log_id)
        self._file: File | None = None
        self._broken = False

    def read(self) -> int:
        """A position that was durable; 0 when the note is missing, torn or damaged: nothing is known then."""
        try:
            file = self._disk.open(self._path, read_only=True)
        except FileNotFoundError:
            return 0
        try:
            raw = file.pread(NOTE.size, 0)
        finally:
            file.close()
        return _parse(raw, self._seed)

    def write(self, position: int) -> None:
        """Behind the sync that made `position` durable. A note that cannot be written is done without."""
        if self._broken:
            return
        body = NOTE.pack(NOTE_MAGIC, position, 0)[:-4]
        try:
            if self._file is None:
                self._file = self._disk.open(self._path, create=True)
            self._file.pwritev([body + struct.pack("<I", crc32c(body, self._seed))], 0)
        except OSError as exc:
            self._broken = True
            log.warning("the log's note of its durable position cannot be written: %s", exc)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
