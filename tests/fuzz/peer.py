# SPDX-License-Identifier: Apache-2.0
"""What a paired but hostile site says: good frames, lies inside good frames, damaged frames. Pure.

The connection ends with the first refused message, so each conversation is long and harmless first and wicked last.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from random import Random

import lz4.block
import zstandard

from stargate.extents import nodes
from stargate.extents.format import Codec, Kind, chunk_hash, node_hash
from stargate.peer import wire
from stargate.peer.frame import HEADER, HEADER_BYTES, LENGTH_MAX, Type, frame
from stargate.units import CHUNK_BYTES, GiB, MiB, TiB

BOMB_BYTES = 256 * MiB
SIZES = [0, 1, 4096, CHUNK_BYTES, GiB, 16 * TiB, 64 * TiB, 64 * TiB + 1, 2**63, 2**64 - 1]


class Liar:
    """Makes conversations of one session; `own` is the site id that the certificate stands for."""

    def __init__(self, rng: Random, own: str) -> None:
        self.rng = rng
        self.own = own
        self.bombs = [(Codec.LZ4, _lz4_bomb()), (Codec.ZSTD, _zstd_bomb()), (Codec.ZSTD, _zstd_bomb(stated=False))]
        self.known: list[bytes] = []

    def conversation(self, session: str, snapshot: str, messages: int) -> tuple[bytes, int]:
        """All that one connection sends, and how many messages that is."""
        rng = self.rng
        if rng.random() < 0.03:
            return rng.randbytes(rng.choice([1, 24, 5000])), 1
        parts = [_frame(wire.Hello(1, 1, self.own, session)), self._begin(session, snapshot)]
        parts += [rng.choice(HARMLESS)(self) for _ in range(rng.randrange(messages))]
        if rng.random() < 0.3:
            parts += self._twins()
        parts.append(rng.choice(WICKED)(self))
        if rng.random() < 0.2:
            parts.append(_frame(wire.Publish(snapshot)))
        return b"".join(parts), len(parts)

    def _begin(self, session: str, snapshot: str) -> bytes:
        """Mostly what was granted; members that claim sizes they do not have."""
        rng = self.rng
        members = tuple(
            wire.Member(str(uuid.UUID(int=rng.getrandbits(128))), self._hash(), rng.choice(SIZES[:7]), CHUNK_BYTES)
            for _ in range(rng.choice([0, 0, 1, 3]))
        )
        return _frame(wire.Begin(session, snapshot, rng.random() < 0.8, members, b'{"name": "fuzz"}'))

    def _hash(self) -> bytes:
        return self.rng.choice(self.known) if self.known and self.rng.random() < 0.5 else self.rng.randbytes(32)

    # -- harmless: the answer is a word, the connection goes on

    def ping(self) -> bytes:
        return _frame(wire.Ping())

    def have(self) -> bytes:
        count = self.rng.choice([0, 1, 7, 200])
        return _frame(wire.Have(self.rng.choice(list(wire.Scope)), [self._hash() for _ in range(count)]))

    def chunk(self) -> bytes:
        data = self.rng.randbytes(8) * (CHUNK_BYTES // 8)
        self.known = [*self.known[-200:], chunk_hash(data)]
        packed = lz4.block.compress(data, store_size=False)
        return _put(wire.Item(Kind.CHUNK, chunk_hash(data), Codec.LZ4, len(data), packed))

    def nothing(self) -> bytes:
        return _put()

    # -- wicked

    def bomb(self) -> bytes:
        codec, payload = self.rng.choice(self.bombs)
        size = self.rng.choice([CHUNK_BYTES, MiB, 4096])
        return _put(wire.Item(Kind.CHUNK, self._hash(), codec, size, payload[: min(size, len(payload))]))

    def liar(self) -> bytes:
        """Bytes that are not what their name says, of any kind and codec."""
        rng = self.rng
        data = rng.randbytes(rng.choice([1, 77, 4096, CHUNK_BYTES]))
        return _put(wire.Item(rng.choice(list(Kind)), self._hash(), rng.choice(list(Codec)), len(data), data))

    def false_node(self) -> bytes:
        """Rightly named, but over children that are not there, of the wrong kind, or of another level."""
        rng = self.rng
        children = b"".join(self._hash() for _ in range(rng.choice([1, 256]))).ljust(256 * 32, b"\0")
        body = nodes.pack_node(rng.choice([0, 1, 2, 7, 255]), 256, children)
        return _put(wire.Item(rng.choice([Kind.LEAF, Kind.INNER]), node_hash(body), Codec.RAW, len(body), body))

    def false_root(self) -> bytes:
        rng = self.rng
        body = bytearray(nodes.pack_root(nodes.TreeFormat(rng.choice(SIZES[:7])), self._hash()))
        if rng.random() < 0.7:
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        return _put(wire.Item(Kind.ROOT, node_hash(bytes(body)), Codec.RAW, len(body), bytes(body)))

    def fetch(self) -> bytes:
        """Reads back what was never shared, from places that do not exist."""
        rng = self.rng
        count = rng.choice([1, 900])
        places = [wire.Place(rng.choice([0, 1, 2, 9, 254, 255]), rng.getrandbits(64)) for _ in range(count)]
        return _frame(wire.Fetch(self._hash(), places))

    def damaged(self) -> bytes:
        """A good message with flipped bits, sometimes under a checksum that fits them."""
        rng = self.rng
        raw = bytearray(rng.choice(HARMLESS)(self))
        for _ in range(rng.choice([1, 3])):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.5 or len(raw) <= HEADER_BYTES:
            return bytes(raw)
        code = rng.choice(list(Type))
        return frame(code, rng.getrandbits(64), [bytes(raw[HEADER_BYTES:])[: LENGTH_MAX[code]]])

    def announced(self) -> bytes:
        """A length that is never sent, below and above the bound."""
        rng = self.rng
        code = rng.choice([*map(int, Type), 0, 17, 255])
        length = rng.choice([LENGTH_MAX.get(Type(code), 0) if code in LENGTH_MAX else 5, 2**31, 2**32 - 1])
        return HEADER.pack(b"PSPW", rng.choice([1, 1, 2]), code, 0, rng.getrandbits(64), length) + rng.randbytes(4)

    def again(self) -> bytes:
        """A second session on the connection."""
        return self._begin(str(uuid.UUID(int=self.rng.getrandbits(128))), str(uuid.UUID(int=1)))

    def _twins(self) -> list[bytes]:
        """A tree of up to 64 TiB made of one chunk: every node has the same child at all places."""
        rng = self.rng
        data = rng.randbytes(8) * (CHUNK_BYTES // 8)
        below = chunk_hash(data)
        items = [wire.Item(Kind.CHUNK, below, Codec.LZ4, len(data), lz4.block.compress(data, store_size=False))]
        size = rng.choice([256 * CHUNK_BYTES, GiB, TiB, 64 * TiB])
        fmt = nodes.TreeFormat(size)
        for level in range(fmt.depth):
            body = nodes.pack_node(level, 256, below * 256)
            below = node_hash(body)
            items.append(wire.Item(Kind.INNER if level else Kind.LEAF, below, Codec.RAW, len(body), body))
        body = nodes.pack_root(fmt, below)
        items.append(wire.Item(Kind.ROOT, node_hash(body), Codec.RAW, len(body), body))
        self.known = [*self.known[-200:], *(item.hash for item in items)]
        return [_put(*items)]


HARMLESS: list[Callable[[Liar], bytes]] = [Liar.ping, Liar.have, Liar.chunk, Liar.nothing]
WICKED: list[Callable[[Liar], bytes]] = [
    Liar.bomb, Liar.liar, Liar.false_node, Liar.false_root, Liar.fetch, Liar.damaged, Liar.announced, Liar.again,
    Liar.ping,
]  # fmt: skip


def _frame(message: wire.Message) -> bytes:
    return wire.encode_frame(message, 1)


def _put(*items: wire.Item) -> bytes:
    return _frame(wire.Put(items))


def _lz4_bomb() -> bytes:
    return bytes(lz4.block.compress(bytes(BOMB_BYTES), store_size=False))


def _zstd_bomb(*, stated: bool = True) -> bytes:
    """`BOMB_BYTES` of zeros in some KiB; `stated`: the frame says how many bytes it holds."""
    return zstandard.ZstdCompressor(write_content_size=stated).compress(bytes(BOMB_BYTES))
