# SPDX-License-Identifier: Apache-2.0
"""Log files of the children, rotated by size while the child goes on writing into its pipe."""

import asyncio
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 10 * 1024 * 1024
KEEP = 5
_CHUNK_BYTES = 64 * 1024


class RotatedFile:
    """Appends bytes; at `max_bytes` the file becomes `.1`, `.1` becomes `.2` and so on, the oldest goes."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._file: BinaryIO | None = None  # opened by the first write

    def write(self, data: bytes) -> None:
        """Append at once (unbuffered for a reader). A full disk loses log lines, never a child."""
        try:
            file = self._file or self.path.open("ab")
            if file.tell() and file.tell() + len(data) > self._max_bytes:
                file.close()
                self._rotate()
                file = self.path.open("ab")
            self._file = file
            file.write(data)
            file.flush()
        except OSError:
            return

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self.path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def tail(self, *, max_bytes: int = 1500) -> str:
        """The last lines, for a message on the screen."""
        try:
            content = self.path.read_bytes()[-max_bytes:]
        except OSError:
            return ""
        return content.decode("utf-8", errors="replace").strip()

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None


async def pump(source: asyncio.StreamReader, target: RotatedFile) -> None:
    """Copy a child's output into its file until the child closes it."""
    while data := await source.read(_CHUNK_BYTES):
        target.write(data)
