# SPDX-License-Identifier: Apache-2.0
"""An index that LMDB cannot read says so in the engine's words: any other error would end the thread that met it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stargate.errors import DamagedData
from stargate.extents.index import LmdbIndex

READS: list[Callable[[LmdbIndex], object]] = [
    lambda index: index.get(bytes(32)),
    lambda index: index.get_many([bytes(32)]),
    lambda index: list(index.items()),
    lambda index: list(index.nodes()),
    lambda index: index.freed(),
    lambda index: index.meta("epoch"),
    lambda index: index.count(),
]


@pytest.mark.parametrize("read", READS)
def test_every_read_of_an_unreadable_index_is_damage(read: Callable[[LmdbIndex], object], tmp_path: Path) -> None:
    index = LmdbIndex(tmp_path)
    read(index)
    index.close()  # from here on LMDB answers with errors of its own
    with pytest.raises(DamagedData, match="rebuild"):
        read(index)
