# SPDX-License-Identifier: Apache-2.0
"""How a block is found: a vDisk's head layer, over its parents, over a tree root. Pure, but for the tree look-up.

A block's value in a content is an int: `position << 33 | hot << 32 | crc32c`, ZERO being 0 (no position is 0, every
region and
segment begins with a header). `hot` tells the log (0) from the hot tier (1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from functools import partial
from operator import add
from typing import NamedTuple, Protocol

from stargate.catalog.state import Epoch, State
from stargate.content import SHARD_BITS, ZERO, EpochContent
from stargate.errors import DamagedData
from stargate.units import BLOCK_BYTES

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
    LOST = 4


class Piece(NamedTuple):
    """`blocks` adjacent blocks from one place; `start` is a position (LOG, HOT) or the first block inside the chunk
    (CHUNK)."""

    kind: Kind
    start: int
    blocks: int
    crcs: tuple[int, ...] = ()
    digest: bytes = ZERO_HASH


class Tree(Protocol):
    """What a rooted layer is read through (stargate.extents.tree.TreeReader)."""

    def chunk(self, index: int) -> bytes: ...


class Layer:
    """An epoch as the front reads it. A rooted layer has a tree and neither content nor parent. A lost one had a hot
    table that cannot be read: what it says nothing newer about may be anything, and is refused.
    """

    __slots__ = ("content", "epoch", "lost", "parent", "per_chunk", "size_bytes", "tree")

    def __init__(self, epoch: Epoch, parent: Layer | None) -> None:
        self.epoch = epoch.epoch
        self.size_bytes = epoch.size_bytes
        self.per_chunk = epoch.blocks_per_chunk
        self.content = EpochContent(self.per_chunk)
        self.parent = parent
        self.tree: Tree | None = None
        self.lost = False

    def lose(self) -> None:
        """Forget what is known so far: the next batch of this epoch is unreadable and may have changed any of it."""
        self.content = EpochContent(self.per_chunk)
        self.lost = True


def _own_run(shard: dict[int, int], block: int, value: int, stop: int) -> Piece:
    """The blocks from `block` on that lie next to each other in the log or the hot tier, at most up to `stop`."""
    if value == ZERO:
        return Piece(Kind.ZEROS, 0, 1)
    crcs = [value & CRC_MASK]
    place = value >> 32
    kind = Kind.HOT if place & 1 else Kind.LOG
    for number in range(block + 1, stop):
        following = shard.get(number)
        place += 2 * BLOCK_BYTES
        if following is None or following >> 32 != place:
            break
        crcs.append(following & CRC_MASK)
    return Piece(kind, value >> POSITION_SHIFT, len(crcs), tuple(crcs))


def _tree_piece(layer: Layer, block: int, stop: int) -> Piece:
    """Up to the end of the chunk."""
    chunk, first = divmod(block, layer.per_chunk)
    count = min(stop - block, layer.per_chunk - first)
    assert layer.tree is not None
    if chunk * layer.per_chunk * BLOCK_BYTES >= layer.size_bytes:
        return Piece(Kind.ZEROS, 0, count)  # the disk grew after this version
    digest = layer.tree.chunk(chunk)
    return Piece(Kind.ZEROS, 0, count) if digest == ZERO_HASH else Piece(Kind.CHUNK, first, count, (), digest)


def _before_own(shard: dict[int, int] | None, block: int, stop: int) -> int:
    """Where the first block of `shard` behind `block` begins, at most `stop`. Asked last: it costs by the block."""
    if not shard:
        return stop
    return next((number for number in range(block + 1, stop) if number in shard), stop)


def _locate(layer: Layer, block: int, stop: int) -> Piece:
    """The piece that begins with `block`. It ends at `stop`, or earlier where any layer above begins to say something
    else."""
    at: Layer | None = layer
    shard_key = block >> SHARD_BITS
    stop = min(stop, (shard_key + 1) << SHARD_BITS)
    while at is not None:
        if at.tree is not None:
            return _tree_piece(at, block, stop)
        content = at.content
        shard = content.shards.get(shard_key)
        if shard is not None:
            value = shard.get(block)
            if value is not None:
                return _own_run(shard, block, value, stop)
        if content.chunks:
            chunk, first = divmod(block, at.per_chunk)
            stop = min(stop, block - first + at.per_chunk)
            digest = content.chunks.get(chunk)
            if digest is not None:
                kind = Kind.ZEROS if digest == ZERO_HASH else Kind.CHUNK
                return Piece(kind, first, _before_own(shard, block, stop) - block, (), digest)
        if content.zeros:
            end = content.zeros.end_of_run(block)
            if end > block:
                return Piece(Kind.ZEROS, 0, _before_own(shard, block, min(stop, end)) - block)
            following = content.zeros.next_start(block)
            stop = stop if following is None else min(stop, following)
        stop = _before_own(shard, block, stop)
        if at.lost:
            return Piece(Kind.LOST, 0, stop - block)
        at = at.parent
    return Piece(Kind.ZEROS, 0, stop - block)


def look_up(layer: Layer, block: int) -> int | bytes:
    """What `plan` says of one block, for the hottest path: its own value, or the hash of the chunk that it lies in.
    ZERO and ZERO_HASH are zeros. Raises DamagedData for a lost one.
    """
    at: Layer | None = layer
    chunk = block // layer.per_chunk
    while at is not None:
        if at.tree is not None:
            if chunk * at.per_chunk * BLOCK_BYTES >= at.size_bytes:
                return ZERO  # the disk grew after this version
            return at.tree.chunk(chunk)
        content = at.content
        shard = content.shards.get(block >> SHARD_BITS)
        if shard is not None:
            value = shard.get(block)
            if value is not None:
                return value
        digest = content.chunks.get(chunk)
        if digest is not None:
            return digest
        if content.zeros and block in content.zeros:
            return ZERO
        if at.lost:
            raise lost_blocks()
        at = at.parent
    return ZERO


def lost_blocks() -> DamagedData:
    """The error of a block whose last write was drained under a table that is gone."""
    return DamagedData("these blocks were drained under a table of the hot tier that cannot be read")


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
    if last.start + last.blocks * BLOCK_BYTES == piece.start:
        return Piece(piece.kind, last.start, last.blocks + piece.blocks, last.crcs + piece.crcs)
    return None


def whole_chunks(layer: Layer, first: int, count: int) -> list[Piece] | None:
    """What `plan` says of whole chunks that nothing newer lies near, without a look at each; None: ask `plan`."""
    per, end = layer.per_chunk, first + count
    if first % per or count % per:
        return None
    shards = range(first >> SHARD_BITS, (end - 1 >> SHARD_BITS) + 1)
    chunks = range(first // per, end // per)
    at: Layer | None = layer
    while at is not None:
        content = at.content
        if at.tree is not None:
            if end * BLOCK_BYTES > at.size_bytes:
                return None
            return _as_pieces(list(map(at.tree.chunk, chunks)), per)
        if content.shards and any(shard in content.shards for shard in shards):
            return None
        if content.chunks:
            digests = [content.chunks[chunk] for chunk in chunks if chunk in content.chunks]
            if digests:
                return _as_pieces(digests, per) if len(digests) == len(chunks) else None
        if content.zeros or at.lost:
            return None
        at = at.parent
    return None


def _as_pieces(digests: list[bytes], per_chunk: int) -> list[Piece] | None:
    """None when holes are among them, which `plan` joins."""
    return None if ZERO_HASH in digests else [Piece(Kind.CHUNK, 0, per_chunk, (), digest) for digest in digests]


def plan(layer: Layer, first: int, count: int) -> list[Piece]:
    """The pieces that make up blocks [first, first + count), in order, joined where they touch."""
    if count > layer.per_chunk:
        run = whole_chunks(layer, first, count)
        if run is not None:
            return run
    end = first + count
    pieces = [_locate(layer, first, end)]
    block = first + pieces[0].blocks
    while block < end:
        piece = _locate(layer, block, end)
        joined = _joined(pieces[-1], piece)
        if joined is None:
            pieces.append(piece)
        else:
            pieces[-1] = joined
        block += piece.blocks
    return pieces


def walk(layer: Layer, first: int, count: int) -> Iterator[Piece]:
    """As `plan`, unjoined and one by one, so that the caller may stop when it has seen enough."""
    block, end = first, first + count
    while block < end:
        piece = _locate(layer, block, end)
        yield piece
        block += piece.blocks


def place_run(content: EpochContent, block: int, position: int, crcs: Sequence[int]) -> None:
    """Enter a write of adjacent blocks at log `position`, a shard at a time rather than a block at a time."""
    step = BLOCK_BYTES << POSITION_SHIFT
    at, end = 0, len(crcs)
    while at < end:
        first = block + at
        count = min(end - at, (1 << SHARD_BITS) - (first & ((1 << SHARD_BITS) - 1)))
        base = (position << POSITION_SHIFT) + at * step
        values = map(add, range(base, base + count * step, step), crcs[at : at + count])
        content.shards.setdefault(first >> SHARD_BITS, {}).update(zip(range(first, first + count), values, strict=True))
        at += count


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
        layer.tree = self._tree(bytes.fromhex(record.root))
        layer.lost = False
        layer.content = EpochContent(layer.per_chunk)
        layer.parent = None

    def _tree(self, root: bytes) -> Tree:
        """A root that cannot be read stops only those who read through it."""
        try:
            return self._open_tree(root)
        except DamagedData:
            return _UnreadTree(partial(self._open_tree, root))


class _UnreadTree:
    """Tries again with each read: the healer may have been there."""

    def __init__(self, open_tree: Callable[[], Tree]) -> None:
        self._open = open_tree
        self._tree: Tree | None = None

    def chunk(self, index: int) -> bytes:
        if self._tree is None:
            self._tree = self._open()
        return self._tree.chunk(index)
