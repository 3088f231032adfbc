# SPDX-License-Identifier: Apache-2.0
"""`look_up` of one block against `plan`, the general way to find blocks."""

from __future__ import annotations

import random

import pytest

from stargate.catalog.state import Epoch
from stargate.content import ZERO
from stargate.errors import DamagedData
from stargate.front.layers import (
    CRC_MASK,
    HOT_BIT,
    POSITION_SHIFT,
    ZERO_HASH,
    Kind,
    Layer,
    Piece,
    look_up,
    lost_blocks,
    plan,
    walk,
    whole_chunks,
)
from stargate.units import BLOCK_BYTES

CHUNKS = 300
PER_CHUNK = 16
SEEDS = 60


class RandomTree:
    def __init__(self, rng: random.Random) -> None:
        self._hashes = [rng.choice([ZERO_HASH, rng.randbytes(32)]) for _ in range(CHUNKS)]

    def chunk(self, index: int) -> bytes:
        return self._hashes[index]


def random_layer(rng: random.Random, parent: Layer | None) -> Layer:
    size = rng.randrange(CHUNKS // 2, CHUNKS) * PER_CHUNK * BLOCK_BYTES
    layer = Layer(Epoch(f"{rng.random()}", None, size, PER_CHUNK * BLOCK_BYTES), parent)
    for _ in range(rng.randrange(60)):
        block = rng.randrange(CHUNKS * PER_CHUNK)
        kind = rng.randrange(4)
        if kind == 0:
            layer.content.zero(block, rng.randrange(1, 400))
        elif kind == 1:
            layer.content.set_chunk(block // PER_CHUNK, rng.choice([ZERO_HASH, rng.randbytes(32)]))
        else:
            layer.content.write(block, rng.randrange(1, 1 << 60))
    if rng.random() < 0.2:
        layer.lose()
    return layer


def planned(layer: Layer, block: int) -> int | bytes:
    (piece,) = plan(layer, block, 1)
    if piece.kind is Kind.LOST:
        raise lost_blocks()
    if piece.kind is Kind.CHUNK:
        assert piece.start == block % PER_CHUNK
        return piece.digest
    if piece.kind is Kind.ZEROS:
        return ZERO
    return piece.start << POSITION_SHIFT | (HOT_BIT if piece.kind is Kind.HOT else 0) | piece.crcs[0] & CRC_MASK


@pytest.mark.parametrize("rooted", [False, True])
def test_it_finds_one_block_where_a_plan_finds_it(rooted: bool) -> None:
    for _ in range(SEEDS):
        seed = random.randrange(1 << 32)
        print("seed", seed)
        rng = random.Random(seed)
        layer: Layer | None = None
        for number in range(rng.randrange(1, 5)):
            layer = random_layer(rng, layer)
            if rooted and number == 0:
                layer.tree = RandomTree(rng)
        assert layer is not None
        for block in range(CHUNKS * PER_CHUNK):
            try:
                expected = planned(layer, block)
            except DamagedData:
                with pytest.raises(DamagedData):
                    look_up(layer, block)
                continue
            found = look_up(layer, block)
            assert (ZERO if found == ZERO_HASH else found) == expected


def joined_walk(layer: Layer, block: int, count: int) -> list[tuple[Kind, bytes, int]]:
    """Kind, hash and block inside the chunk of each block, found one piece at a time."""
    return [each for piece in walk(layer, block, count) for each in of_blocks(piece)]


def of_blocks(piece: Piece) -> list[tuple[Kind, bytes, int]]:
    start = piece.start if piece.kind is Kind.CHUNK else 0
    return [(piece.kind, piece.digest, start + at * (piece.kind is Kind.CHUNK)) for at in range(piece.blocks)]


@pytest.mark.parametrize("rooted", [False, True])
def test_it_finds_whole_chunks_where_a_walk_finds_them(rooted: bool) -> None:
    taken = 0
    for _ in range(SEEDS):
        seed = random.randrange(1 << 32)
        print("seed", seed)
        rng = random.Random(seed)
        layer = random_layer(rng, None)
        if rooted:
            layer.tree = RandomTree(rng)
        for _ in range(rng.randrange(3)):
            layer = random_layer(rng, layer)
        if rng.random() < 0.5:  # a shard free of single blocks, as the drain leaves it
            layer.content.shards.pop(0, None)
            for chunk in range(rng.randrange(64)):
                layer.content.set_chunk(chunk, rng.randbytes(32))
            if rng.random() < 0.5:
                layer.content.write(rng.randrange(64 * PER_CHUNK), rng.randrange(1, 1 << 60))
        for _ in range(200):
            first = rng.randrange(rng.choice([64, CHUNKS - 20])) * PER_CHUNK + rng.choice([0, 0, 0, 3])
            count = rng.randrange(1, 5) * PER_CHUNK + rng.choice([0, 0, 0, 5])
            run = whole_chunks(layer, first, count)
            if run is not None:
                taken += 1
                assert [each for piece in run for each in of_blocks(piece)] == joined_walk(layer, first, count)
    assert taken
