# SPDX-License-Identifier: Apache-2.0
"""A disk whose writes and syncs fail when told."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from stargate.fs.disk import Buffer, OsDisk, OsFile


class FaultyDisk(OsDisk):
    """`writes_left` / `syncs_left`: how many still work (None = all). A failing write leaves half of its bytes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.writes_left: int | None = None
        self.syncs_left: int | None = None
        self.log: list[str] = []

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> OsFile:
        plain = super().open(path, create=create, read_only=read_only)
        return _FaultyFile(plain.fileno(), self)


class _FaultyFile(OsFile):
    def __init__(self, fd: int, disk: FaultyDisk) -> None:
        super().__init__(fd)
        self._disk = disk

    def pwritev(self, buffers: Sequence[Buffer], offset: int) -> int:
        self._disk.log.append("write")
        if self._disk.writes_left is not None:
            if self._disk.writes_left == 0:
                data = b"".join(bytes(b) for b in buffers)
                super().pwritev([data[: len(data) // 2]], offset)
                raise OSError(errno.ENOSPC, "no space left on this test disk")
            self._disk.writes_left -= 1
        return super().pwritev(buffers, offset)

    def fdatasync(self) -> None:
        self._disk.log.append("sync")
        if self._disk.syncs_left is not None:
            if self._disk.syncs_left == 0:
                raise OSError(errno.EIO, "this test disk lost its bytes")
            self._disk.syncs_left -= 1
        super().fdatasync()
