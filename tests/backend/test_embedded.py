# SPDX-License-Identifier: Apache-2.0
"""The embedded backend under the contract, and what only it promises."""

from __future__ import annotations

from pathlib import Path

from stargate.backend.base import BlockBackend, ChunkChange
from stargate.backend.embedded import EmbeddedBackend
from stargate.extents.index import LmdbIndex
from stargate.extents.store import ExtentStore
from stargate.fs.disk import OsDisk
from tests.backend.contract import CHUNK, COUNT, SIZE, BackendContract, noise


class TestEmbedded(BackendContract):
    def make(self, folder: Path) -> BlockBackend:
        self.store = ExtentStore(OsDisk(folder), LmdbIndex(folder / "index"), writable=True)
        return EmbeddedBackend(self.store)

    def shut(self, backend: BlockBackend) -> None:
        backend.close()
        self.store.close()

    def test_its_versions_are_named_by_their_content(self, backend: BlockBackend) -> None:
        """Two ways to the same bytes, one id: so versions are comparable between sites."""
        once = backend.apply(None, SIZE, CHUNK, [ChunkChange(1, noise(1)), ChunkChange(2, noise(2))], 1)
        step = backend.apply(None, SIZE, CHUNK, [ChunkChange(2, noise(2)), ChunkChange(3, noise(3))], 1)
        assert backend.apply(step, SIZE, CHUNK, [ChunkChange(1, noise(1)), ChunkChange(3)], 2) == once

    def test_it_stores_equal_chunks_once(self, backend: BlockBackend) -> None:
        backend.apply(None, SIZE, CHUNK, [ChunkChange(i, noise(1)) for i in range(COUNT)], 1)
        backend.commit()
        # The chunk, a leaf, the root, and the root of zeros it was made from.
        assert self.store.stats().extents == 4
