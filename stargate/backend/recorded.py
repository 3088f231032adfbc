# SPDX-License-Identifier: Apache-2.0
"""What backends with a `StateFile` share: bytes are durable before a pin, a group or a stage names them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from stargate.backend.base import BlockBackend, VersionId, zeroing
from stargate.backend.state import StateFile


class RecordedBackend(BlockBackend):
    """Versions are immutable: a clone is the version itself."""

    def __init__(self, file: StateFile) -> None:
        self._file = file

    @abstractmethod
    def _make_durable(self) -> None:
        """All versions made so far survive a crash when this returns."""

    def clone(self, version: VersionId) -> VersionId:
        self.info(version)
        return version

    def resize(self, version: VersionId, size_bytes: int, position: int) -> VersionId:
        return self.apply(version, size_bytes, self.info(version).chunk_bytes, [], position)

    def zero(self, version: VersionId, ranges: Sequence[tuple[int, int]], position: int) -> VersionId:
        changes, whole = zeroing(self, version, ranges)
        size_bytes, chunk_bytes = self.info(version)
        return self.apply(version, size_bytes, chunk_bytes, changes, position, zero_ranges=whole)

    def group_snapshot(self, name: str, versions: Sequence[VersionId], position: int) -> None:
        for version in versions:
            self.info(version)
        self._make_durable()
        self._file.add_group(name, list(versions), position)

    def group(self, name: str) -> tuple[int, list[VersionId]]:
        return self._file.group(name)

    def drop_group(self, name: str) -> None:
        self._file.drop_group(name)

    def publish(self, key: str) -> VersionId:
        return self._file.publish(key)

    def abort(self, key: str) -> None:
        self._file.set_stage(key, None)

    def pin(self, version: VersionId, owner: str) -> None:
        self.info(version)
        self._make_durable()
        self._file.pin(version, owner)

    def unpin(self, version: VersionId, owner: str) -> None:
        self._file.unpin(version, owner)
