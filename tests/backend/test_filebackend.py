# SPDX-License-Identifier: Apache-2.0
"""The file backend under the contract."""

from __future__ import annotations

from pathlib import Path

from stargate.backend.base import BlockBackend
from stargate.backend.filebackend import FileBackend
from stargate.fs.disk import OsDisk
from tests.backend.contract import BackendContract


class TestFiles(BackendContract):
    def make(self, folder: Path) -> BlockBackend:
        return FileBackend(OsDisk(folder))

    def test_it_says_which_version_lost_its_file(self, backend: BlockBackend, tmp_path: Path) -> None:
        version = self.some(backend)
        backend.commit()
        (tmp_path / "versions" / version.hex()).unlink()
        assert version.hex() in backend.health().problems[0]
