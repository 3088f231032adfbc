# SPDX-License-Identifier: Apache-2.0
"""BLOCK_STATUS of a large range: a bounded piece of work per answer, the same map in the end."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import cast

from stargate.content import EpochContent
from stargate.front.engine import FrontEngine
from stargate.front.exports import VersionExport
from stargate.front.layers import Layer, place_run
from stargate.units import BLOCK_BYTES, MiB

SIZE = 64 * MiB
BLOCKS = SIZE // BLOCK_BYTES


def export_of(content: EpochContent) -> VersionExport:
    layer = Layer.__new__(Layer)
    layer.content, layer.parent, layer.tree, layer.lost = content, None, None, False
    layer.size_bytes, layer.per_chunk = SIZE, content.blocks_per_chunk
    return VersionExport(cast(FrontEngine, SimpleNamespace()), "x", layer, SIZE, "")


def whole_map(export: VersionExport) -> tuple[list[bool], int]:
    """(block has data, most extents in one answer), asked on until the end as clients do."""
    data: list[bool] = []
    most = 0
    while len(data) < BLOCKS:
        found = export.extents(len(data) * BLOCK_BYTES, SIZE - len(data) * BLOCK_BYTES)
        assert found
        assert all(size > 0 and size % BLOCK_BYTES == 0 for size, _ in found)
        most = max(most, len(found))
        for size, state in found:
            data += [state == 0] * (size // BLOCK_BYTES)
    return data, most


def test_it_tells_the_same_map_piece_by_piece() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    content = EpochContent(16)
    expected = [False] * BLOCKS
    for block in rng.sample(range(BLOCKS), BLOCKS // 3):  # the worst: single blocks everywhere
        place_run(content, block, rng.randrange(1 << 20) * BLOCK_BYTES, [7])
        expected[block] = True
    for chunk in rng.sample(range(BLOCKS // 16), 200):
        content.chunks[chunk] = rng.randbytes(32)
        expected[chunk * 16 : chunk * 16 + 16] = [True] * 16
    data, most = whole_map(export_of(content))
    assert data == expected
    assert most <= 600


def test_an_untouched_disk_is_one_answer() -> None:
    export = export_of(EpochContent(16))
    assert export.extents(0, SIZE) == [(SIZE, 3)]
