# SPDX-License-Identifier: Apache-2.0
"""Whether this store process still owns its folder: the second fence behind the lock.

The lock keeps a second store away for as long as the first exists, frozen or not. Should somebody remove the lock file
of a frozen store, or lay the folder on a file system whose locks do not hold, then whoever took the folder last owns
it: its mark is in the lock file, and the one before finds that out before it drains, folds or commits.
"""

from __future__ import annotations

import secrets

from stargate.errors import StaleToken
from stargate.fs.disk import Disk

_MARK_BYTES = 16


class Ownership:
    """The mark of this process in the lock file at `path`, which it holds. It need not survive a crash: nothing of a
    store does.
    """

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path
        self._mark = secrets.token_bytes(_MARK_BYTES)
        file = disk.open(path)
        try:
            file.pwritev([self._mark], 0)
        finally:
            file.close()

    def check(self) -> None:
        """Raises StaleToken when another store took the folder over; OSError when the disk does not say."""
        if self._read() != self._mark:
            raise StaleToken("another store process has taken over this data folder; this one stops")

    def _read(self) -> bytes:
        try:
            file = self._disk.open(self._path, read_only=True)
        except FileNotFoundError:
            return b""
        try:
            return file.pread(_MARK_BYTES, 0)
        finally:
            file.close()
