# SPDX-License-Identifier: Apache-2.0
"""Negotiation, byte for byte, without a socket."""

from __future__ import annotations

import random
import struct

import pytest
from nbd_kit import MemoryExport, MemoryExports

from stargate.errors import ExportDown
from stargate.nbd import wire
from stargate.nbd.negotiate import Handshake

FLAGS = b"\0\0\0\3"


@pytest.fixture
def directory() -> MemoryExports:
    return MemoryExports(MemoryExport("disk", 0x10000), MemoryExport("zwei", 0x2000))


def option(number: int, data: bytes = b"") -> bytes:
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def reply(number: int, kind: int, data: bytes = b"") -> bytes:
    return bytes.fromhex("0003e889045565a9") + struct.pack(">III", number, kind, len(data)) + data


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def talk(handshake: Handshake, data: bytes) -> bytes:
    """Feeds all of `data`, one element after the other, and returns the replies."""
    out = b""
    while True:
        used, answer = handshake.feed(data)
        data = data[used:]
        out += answer
        if not used:
            return out


def started(directory: MemoryExports) -> Handshake:
    handshake = Handshake(directory)
    assert talk(handshake, FLAGS) == b""
    return handshake


def kinds(answer: bytes) -> list[int]:
    found = []
    while answer:
        _, _, kind, length = struct.unpack_from(">QIII", answer)
        found.append(kind)
        answer = answer[20 + length :]
    return found


def test_it_greets() -> None:
    assert Handshake.greeting() == b"NBDMAGICIHAVEOPT\0\3"


def test_it_goes(directory: MemoryExports) -> None:
    handshake = started(directory)
    answer = talk(handshake, option(7, text(b"disk") + b"\0\0"))
    flags = 0b1101_0110_1101 | 0x800 | 0x400
    assert answer == (
        reply(7, 3, struct.pack(">HQH", 0, 0x10000, flags))
        + reply(7, 3, struct.pack(">HIII", 3, 1, 4096, 32 << 20))
        + reply(7, 1)
    )
    assert handshake.finished
    assert handshake.chosen is directory.exports["disk"]


def test_it_tells_name_and_description_when_asked(directory: MemoryExports) -> None:
    answer = talk(started(directory), option(6, text(b"zwei") + b"\0\2\0\1\0\2"))
    assert reply(6, 3, b"\0\1zwei") in answer
    assert reply(6, 3, b"\0\2test disk zwei") in answer
    assert answer.endswith(reply(6, 1))


def test_info_does_not_choose(directory: MemoryExports) -> None:
    handshake = started(directory)
    talk(handshake, option(6, text(b"disk") + b"\0\0"))
    assert not handshake.finished
    assert handshake.chosen is None


def test_it_serves_export_name_with_and_without_padding(directory: MemoryExports) -> None:
    flags = 0b1101_0110_1101 | 0xC00
    short = struct.pack(">QH", 0x10000, flags)
    assert talk(started(directory), option(1, b"disk")) == short
    assert talk(Handshake(directory), b"\0\0\0\1" + option(1, b"disk")) == short + bytes(124)


def test_an_unknown_export_name_hangs_up(directory: MemoryExports) -> None:
    handshake = started(directory)
    assert talk(handshake, option(1, b"none")) == b""
    assert handshake.closing
    assert not handshake.finished


def test_it_lists(directory: MemoryExports) -> None:
    expected = reply(3, 2, text(b"disk")) + reply(3, 2, text(b"zwei")) + reply(3, 1)
    assert talk(started(directory), option(3)) == expected


def test_it_aborts_with_an_answer(directory: MemoryExports) -> None:
    handshake = started(directory)
    assert talk(handshake, option(2)) == reply(2, 1)
    assert handshake.closing


def test_it_negotiates_structured_replies_and_base_allocation(directory: MemoryExports) -> None:
    handshake = started(directory)
    assert talk(handshake, option(8)) == reply(8, 1)
    query = text(b"disk") + b"\0\0\0\2" + text(b"qemu:dirty-bitmap:x") + text(b"base:allocation")
    assert talk(handshake, option(10, query)) == reply(10, 4, b"\0\0\0\1base:allocation") + reply(10, 1)
    answer = talk(handshake, option(7, text(b"disk") + b"\0\0"))
    assert struct.unpack_from(">H", answer, 20 + 10)[0] & wire.EXPORT_SEND_DF
    assert handshake.structured
    assert handshake.status


def test_a_context_set_for_another_export_is_forgotten(directory: MemoryExports) -> None:
    handshake = started(directory)
    talk(handshake, option(8) + option(10, text(b"zwei") + b"\0\0\0\1" + text(b"base:allocation")))
    talk(handshake, option(7, text(b"disk") + b"\0\0"))
    assert handshake.finished
    assert not handshake.status


def test_meta_contexts_need_structured_replies(directory: MemoryExports) -> None:
    assert kinds(talk(started(directory), option(9, text(b"disk") + bytes(4)))) == [wire.REP_ERR_INVALID]


@pytest.mark.parametrize(
    ("query", "found"), [(b"", True), (b"base:", True), (b"base:allocation", True), (b"x:", False)]
)
def test_it_lists_meta_contexts(directory: MemoryExports, query: bytes, found: bool) -> None:
    queries = b"\0\0\0\1" + text(query) if query else bytes(4)
    answer = talk(started(directory), option(8) + option(9, text(b"disk") + queries))
    assert kinds(answer) == [1, 4, 1] if found else [1, 1]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (option(5), wire.REP_ERR_UNSUP),
        (option(77, b"abc"), wire.REP_ERR_UNSUP),
        (option(3, b"x"), wire.REP_ERR_INVALID),
        (option(8, b"x"), wire.REP_ERR_INVALID),
        (option(7), wire.REP_ERR_INVALID),
        (option(7, text(b"disk")), wire.REP_ERR_INVALID),
        (option(7, text(b"disk") + b"\0\1"), wire.REP_ERR_INVALID),
        (option(7, b"\xff\xff\xff\xffdisk\0\0"), wire.REP_ERR_INVALID),
        (option(7, text(b"di\0sk") + b"\0\0"), wire.REP_ERR_INVALID),
        (option(7, text(b"\xff\xfe") + b"\0\0"), wire.REP_ERR_INVALID),
        (option(7, text(b"../disk") + b"\0\0"), wire.REP_ERR_UNKNOWN),
        (option(7, text(b"x" * 256) + b"\0\0"), wire.REP_ERR_TOO_BIG),
        (option(7, text(b"x" * 4096) + b"\0\0"), wire.REP_ERR_TOO_BIG),
        (option(7, text(b"x" * 100000) + b"\0\0"), wire.REP_ERR_TOO_BIG),
    ],
)
def test_it_refuses_and_goes_on(directory: MemoryExports, data: bytes, expected: int) -> None:
    handshake = started(directory)
    assert kinds(talk(handshake, data)) == [expected]
    talk(handshake, option(7, text(b"disk") + b"\0\0"))
    assert handshake.finished


@pytest.mark.parametrize("queries", [b"", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\0\0\0\1\0\0\0\5abc", bytes(4) + b"x"])
def test_it_refuses_bad_queries(directory: MemoryExports, queries: bytes) -> None:
    answer = talk(started(directory), option(8) + option(10, text(b"disk") + queries))
    assert kinds(answer) == [1, wire.REP_ERR_INVALID]


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x80",
        FLAGS + b"NOTANOPT" + bytes(8),
        FLAGS + b"IHAVEOPT\0\0\0\7\xff\xff\xff\xff",
        FLAGS + b"IHAVEOPT\0\0\0\1\0\0\x40\0",
        b"\0\0\0\2" + option(7, text(b"disk") + b"\0\0"),
        FLAGS + struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, 0, 4096),
    ],
    ids=["flags", "magic", "length", "long name", "not fixed", "command before GO"],
)
def test_it_hangs_up_on_nonsense(directory: MemoryExports, data: bytes) -> None:
    handshake = Handshake(directory)
    assert talk(handshake, data) == b""
    assert handshake.closing
    assert not handshake.finished


def test_a_downed_export_is_a_policy(directory: MemoryExports) -> None:
    directory.lookup_error = ExportDown("the disk is fenced")
    answer = talk(started(directory), option(7, text(b"disk") + b"\0\0"))
    assert kinds(answer) == [wire.REP_ERR_POLICY]
    assert answer.endswith(b"the disk is fenced")


def test_it_ends_after_too_many_options(directory: MemoryExports) -> None:
    handshake = started(directory)
    talk(handshake, option(77) * (wire.MAX_OPTIONS + 1))
    assert handshake.closing


def test_byte_by_byte_gives_the_same_as_at_once(directory: MemoryExports) -> None:
    data = FLAGS + option(8) + option(7, text(b"x" * 9000)) + option(3) + option(7, text(b"disk") + b"\0\0")
    slow, pending, out = Handshake(directory), b"", b""
    for at in range(len(data)):
        pending += data[at : at + 1]
        used = 1
        while used and pending:
            used, answer = slow.feed(pending)
            pending, out = pending[used:], out + answer
    assert slow.finished
    assert out == talk(Handshake(directory), data)


def test_random_bytes_never_raise(directory: MemoryExports) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(3000):
        handshake = started(directory)
        body = bytes(rng.choice([0, 0, 0, 1, 4, 255, rng.randrange(256)]) for _ in range(rng.randrange(40)))
        answer = talk(handshake, option(8) * rng.randrange(2) + option(rng.randrange(12), body) + rng.randbytes(30))
        assert len(answer) < 4096
