# SPDX-License-Identifier: Apache-2.0
"""How a block is found: a vDisk's head layer, over its parents, over a tree root. Pure, but for the tree look-up.

A block's value in a content is an int: `position << 33 | hot << 32 | crc32c`, ZERO being 0 (no position is 0, every region and
segment begins with a header). `hot` tells the log (0) from the hot tier (1).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, Protocol

from stargate.catalog.state import Epoch, State
from stargate.content import SHARD_BITS, ZERO, EpochContent

POSITION_SHIFT = 33
HOT_BIT = 1 << 32
CRC_MASK = 0xFFFFFFFF

ZERO_HASH = bytes(32)


class Kind(IntEnum):
    """Where a piece of a read comes from."""

    ZEROS = 0
    LOG = 1
    HOT = 2
    CHUNK = 3


class Piece(NamedTuple):
    """`blocks` adjacent blocks from one place; `start` is a position (LOG, HOT) or the first block inside the chunk (CHUNK)."""

    kind: Kind
    start: int
    blocks: int
    crcs: tuple[int, ...] = ()
    digest: bytes = ZERO_HASH


class Tree(Protocol):
    """What a rooted layer is read through (stargate.extents.tree.TreeReader)."""

    def chunk(self, index: int) -> bytes: ...


class Layer:
    """An epoch as the front reads it. A rooted layer has a tree and neither content nor parent."""

    __slots__ = ("content", "epoch", "parent", "per_chunk", "size_bytes", "tree")

    def __init__(self, epoch: Epoch, parent: Layer | None) -> None:
        self.epoch = epoch.epoch
        self.size_bytes = epoch.size_bytes
        self.per_chunk = epoch.blocks_per_chunk
        self.content = EpochContent(self.per_chunk)
        self.parent = parent
        self.tree: Tree | None = None


def _value_piece(value: int) -> Piece:
    if value == ZERO:
        return Piece(Kind.ZEROS, 0, 1)
    kind = Kind.HOT if value & HOT_BIT else Kind.LOG
    return Piece(kind, value >> POSITION_SHIFT, 1, (value & CRC_MASK,))


def _tree_piece(layer: Layer, block: int, count: int) -> Piece:
    chunk, first = divmod(block, layer.per_chunk)
    assert layer.tree is not None
    if chunk * layer.per_chunk * 4096 >= layer.size_bytes:
        return Piece(Kind.ZEROS, 0, count)  # the disk grew after this version
    digest = layer.tree.chunk(chunk)
    return Piece(Kind.ZEROS, 0, count) if digest == ZERO_HASH else Piece(Kind.CHUNK, first, count, (), digest)


def _locate(layer: Layer, block: int) -> Piece:
    """One block, wherever it is."""
    at: Layer | None = layer
    while at is not None:
        if at.tree is not None:
            return _tree_piece(at, block, 1)
        content = at.content
        shard = content.shards.get(block >> SHARD_BITS)
        if shard is not None:
            value = shard.get(block)
            if value is not None:
                return _value_piece(value)
        if content.chunks:
            digest = content.chunks.get(block // at.per_chunk)
            if digest is not None:
                if digest == ZERO_HASH:
                    return Piece(Kind.ZEROS, 0, 1)
                return Piece(Kind.CHUNK, block % at.per_chunk, 1, (), digest)
        if content.zeros and block in content.zeros:
            return Piece(Kind.ZEROS, 0, 1)
        at = at.parent
    return Piece(Kind.ZEROS, 0, 1)


def _clear_to_tree(layer: Layer, block: int) -> Layer | None | bool:
    """The rooted layer below when no content above says anything near `block`; None = zeros below; False = look block by block."""
    at: Layer | None = layer
    while at is not None:
        if at.tree is not None:
            return at
        content = at.content
        if content.zeros or (block >> SHARD_BITS) in content.shards or block // at.per_chunk in content.chunks:
            return False
        at = at.parent
    return None


def _joined(last: Piece, piece: Piece) -> Piece | None:
    """Both as one piece when they lie next to each other."""
    if last.kind is not piece.kind:
        return None
    if piece.kind is Kind.ZEROS:
        return Piece(Kind.ZEROS, 0, last.blocks + piece.blocks)
    if piece.kind is Kind.CHUNK:
        if last.digest == piece.digest and last.start + last.blocks == piece.start:
            return Piece(Kind.CHUNK, last.start, last.blocks + piece.blocks, (), last.digest)
        return None
    if last.start + last.blocks * 4096 == piece.start:
        return Piece(piece.kind, last.start, last.blocks + piece.blocks, last.crcs + piece.crcs)
    return None


def plan(layer: Layer, first: int, count: int) -> list[Piece]:
    """The pieces that make up blocks [first, first + count), in order, joined where they touch."""
    if count == 1:
        return [_locate(layer, first)]
    pieces: list[Piece] = []
    block, end = first, first + count
    while block < end:
        below = _clear_to_tree(layer, block)
        if below is False:
            piece = _locate(layer, block)
        else:
            stop = min(end, (block // layer.per_chunk + 1) * layer.per_chunk)
            assert not isinstance(below, bool)
            piece = Piece(Kind.ZEROS, 0, stop - block) if below is None else _tree_piece(below, block, stop - block)
        joined = _joined(pieces[-1], piece) if pieces else None
        if joined is None:
            pieces.append(piece)
        else:
            pieces[-1] = joined
        block += piece.blocks
    return pieces


class Layers:
    """The layers of all epochs, kept in step with the catalog state."""

    def __init__(self, state: State, open_tree: Callable[[bytes], Tree]) -> None:
        self._state = state
        self._open_tree = open_tree
        self._layers: dict[str, Layer] = {}
        for epoch in state.epochs:
            self.get(epoch)

    def get(self, epoch: str) -> Layer:
        """The layer of an epoch that the state knows; made (with its parents) on first use."""
        layer = self._layers.get(epoch)
        if layer is not None:
            return layer
        chain = []
        at: str | None = epoch
        while at is not None and at not in self._layers:
            chain.append(self._state.epochs[at])
            at = None if chain[-1].root is not None else chain[-1].parent
        for record in reversed(chain):
            parent = self._layers[record.parent] if record.root is None and record.parent is not None else None
            self._layers[record.epoch] = Layer(record, parent)
            self._root(record)
        return self._layers[epoch]

    def follow(self, epoch: str) -> None:
        """The state changed for this epoch: it is new, sealed, rooted or gone."""
        record = self._state.epochs.get(epoch)
        if record is None:
            self._layers.pop(epoch, None)
            return
        layer = self.get(epoch)
        layer.size_bytes = record.size_bytes
        if layer.tree is None:
            self._root(record)

    def _root(self, record: Epoch) -> None:
        if record.root is None:
            return
        layer = self._layers[record.epoch]
        layer.tree = self._open_tree(bytes.fromhex(record.root))
        layer.content = EpochContent(layer.per_chunk)
        layer.parent = None
