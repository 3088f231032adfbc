# SPDX-License-Identifier: Apache-2.0
"""Frames and messages: what is encoded is decoded, everything else is refused without being allocated."""

from __future__ import annotations

import random
import uuid

import pytest

from stargate.errors import PeerProtocol
from stargate.extents.format import Codec, Kind
from stargate.peer import wire
from stargate.peer.frame import HEADER_BYTES, LENGTH_MAX, Cursor, Type, parse_header

ALL = frozenset(Type)
UUID = str(uuid.UUID(int=7))
MESSAGES: list[wire.Message] = [
    wire.Hello(1, 3, UUID, UUID),
    wire.Welcome(1, UUID, 4096, 8192),
    wire.Begin(UUID, UUID, False, (wire.Member(UUID, b"r" * 32, 5000, 65536),), b'{"a": 1}'),
    wire.Begun(True, False),
    wire.Have(wire.Scope.SESSION, [b"a" * 32, b"b" * 32]),
    wire.HaveReply([True, False] * 9 + [True]),
    wire.Put(
        [
            wire.Item(Kind.CHUNK, b"h" * 32, Codec.ZSTD, 4096, b"abc"),
            wire.Item(Kind.ROOT, b"i" * 32, Codec.RAW, 2, b"de"),
        ]
    ),
    wire.PutAck(3, 4),
    wire.Publish(UUID),
    wire.Published(UUID),
    wire.Status(9),
    wire.Error("no_space", "voll: ä"),
    wire.Ping(),
    wire.Pong(),
    wire.Fetch(b"r" * 32, [wire.Place(0, 1 << 40), wire.Place(255, 0)]),
    wire.Items([wire.Item(Kind.LEAF, b"h" * 32, Codec.RAW, 2, b"de")]),
]


def parse(raw: bytes) -> wire.Message:
    header = parse_header(raw[:HEADER_BYTES], ALL)
    return wire.decode_payload(raw[:HEADER_BYTES], header, raw[HEADER_BYTES:])


def name(message: wire.Message) -> str:
    return type(message).__name__


def test_it_knows_every_type() -> None:
    assert set(wire.BY_TYPE) == set(LENGTH_MAX) == {message.TYPE for message in MESSAGES} == ALL


@pytest.mark.parametrize("message", MESSAGES, ids=name)
def test_it_decodes_what_it_encodes(message: wire.Message) -> None:
    raw = wire.encode_frame(message, 12345)
    assert parse(raw) == message
    assert parse_header(raw[:HEADER_BYTES], ALL).request == 12345


@pytest.mark.parametrize("message", MESSAGES, ids=name)
def test_it_refuses_every_truncation_and_surplus(message: wire.Message) -> None:
    payload = b"".join(message.encode())
    for wrong in [payload[:length] for length in range(len(payload))] + [payload + b"\0"]:
        cursor = Cursor(wrong)
        with pytest.raises(PeerProtocol):  # noqa: PT012 (either step may notice)
            type(message).decode(cursor)
            cursor.end()


@pytest.mark.parametrize("message", MESSAGES, ids=name)
def test_it_refuses_every_flipped_bit(message: wire.Message) -> None:
    raw = wire.encode_frame(message, 1)
    for bit in range(len(raw) * 8):
        wrong = bytearray(raw)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PeerProtocol):
            parse(bytes(wrong))


def test_it_meets_random_payloads_with_a_message_or_a_refusal(rng: random.Random) -> None:
    refused = 0
    for _ in range(4000):
        cursor = Cursor(rng.randbytes(rng.choice([0, 1, 4, 20, 100, 500])))
        try:
            wire.BY_TYPE[rng.choice(list(Type))].decode(cursor)
            cursor.end()
        except PeerProtocol:
            refused += 1
    assert refused > 3000


@pytest.mark.parametrize(
    "bad",
    [
        wire.Member(UUID, b"r" * 32, 2**63, 65536),
        wire.Member(UUID, b"r" * 32, 4096, 65537),
        wire.Member(UUID, b"r" * 32, 4096, 0),
        wire.Member(UUID, b"r" * 32, 4096, 2**30),
    ],
)
def test_it_refuses_disks_that_cannot_exist(bad: wire.Member) -> None:
    with pytest.raises(PeerProtocol):
        parse(wire.encode_frame(wire.Begin(UUID, UUID, True, (bad,), b"{}"), 1))


def test_it_refuses_a_disk_named_twice() -> None:
    twice = (wire.Member(UUID, b"r" * 32, 4096, 65536),) * 2
    with pytest.raises(PeerProtocol):
        parse(wire.encode_frame(wire.Begin(UUID, UUID, True, twice, b"{}"), 1))


@pytest.mark.parametrize(("usize", "length"), [(0, 1), (4096, 0), (4096, 4097), (2**21, 10), (2**32 - 1, 10)])
def test_it_refuses_items_of_impossible_size(usize: int, length: int) -> None:
    with pytest.raises(PeerProtocol):
        parse(wire.encode_frame(wire.Put([wire.Item(Kind.CHUNK, b"h" * 32, Codec.ZSTD, usize, bytes(length))]), 1))


@pytest.mark.parametrize("count", [0, 1, 8, 9, 8191, 8192])
def test_it_answers_each_hash_with_its_bit(count: int) -> None:
    present = [random.Random(bit).random() < 0.5 for bit in range(count)]
    payload = b"".join(wire.HaveReply(present).encode())
    assert payload[4:] == sum(1 << bit for bit in range(count) if present[bit]).to_bytes(-(-count // 8), "little")
    assert wire.HaveReply.decode(Cursor(payload)).present == present
    if count % 8:
        with pytest.raises(PeerProtocol):
            wire.HaveReply.decode(Cursor(payload[:-1] + bytes([payload[-1] | 1 << count % 8])))


def test_it_refuses_a_length_before_reading_it() -> None:
    for code, limit in LENGTH_MAX.items():
        raw = bytearray(wire.encode_frame(wire.Ping(), 1))
        raw[5] = code
        raw[16:20] = (limit + 1).to_bytes(4, "little")
        with pytest.raises(PeerProtocol, match="too long"):
            parse_header(raw, ALL)
