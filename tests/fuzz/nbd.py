# SPDX-License-Identifier: Apache-2.0
"""What a hostile NBD client says: conversations made from a grammar of the protocol, then damaged. Pure."""

from __future__ import annotations

from random import Random

from stargate.nbd import wire
from stargate.units import KiB, MiB

EDGES = [0, 1, 511, 512, 4095, 4096, 4097, 65535, 65536, MiB, 32 * MiB, 32 * MiB + 1]
HUGE = [2**31 - 1, 2**31, 2**32 - 1]
OPTIONS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255, 2**31, 2**32 - 1]
COMMANDS = [*range(10), 255, 65535]
PAYLOAD_BYTES_MAX = 16 * KiB
"""Of one WRITE that is sent in full. Longer ones are announced, and cut."""

NAMES = [
    "",
    "victim",
    "neighbour",
    "../victim",
    "victim\0",
    "\0" * 255,
    "x" * 256,
    "x" * 4096,
    "é" * 200,
    "snapshot:a:b",
]


def conversation(rng: Random, messages: int, size_bytes: int) -> tuple[bytes, int]:
    """All that one connection sends, to an export "victim" of `size_bytes`, and how many messages that is."""
    kind = rng.random()
    if kind < 0.02:
        return rng.randbytes(rng.choice([1, 17, 300, 70_000])), 1
    parts = [_flags(rng), *(_option(rng) for _ in range(rng.choice([0, 0, 1, 3, 12])))]
    if kind < 0.85:
        parts += [_go(rng), *(_request(rng, size_bytes) for _ in range(messages))]
    if rng.random() < 0.2:
        parts = _damaged(rng, parts)
    return b"".join(parts), len(parts)


def _flags(rng: Random) -> bytes:
    value = rng.getrandbits(32) if rng.random() < 0.05 else rng.choice([1, 3])
    return wire.CLIENT_FLAGS.pack(value)


def _name(rng: Random) -> bytes:
    return rng.choice(NAMES).encode()


def _option(rng: Random) -> bytes:
    """Seldom fatal: the connection must go on after nearly all of them."""
    code = rng.choice(OPTIONS[3:] if rng.random() < 0.97 else OPTIONS)
    if code == wire.OPT_STARTTLS and rng.random() < 0.9:
        code = wire.OPT_LIST
    data = _option_data(rng, code)
    if rng.random() < 0.01:
        return wire.OPTION.pack(wire.OPTION_MAGIC, code, rng.choice(HUGE)) + data
    magic = wire.OPTION_MAGIC if rng.random() < 0.995 else rng.getrandbits(64)
    return wire.OPTION.pack(magic, code, len(data)) + data


def _option_data(rng: Random, code: int) -> bytes:
    if rng.random() < 0.2:
        return rng.randbytes(rng.choice([0, 1, 3, 7, 200, 9000]))
    if code in (wire.OPT_INFO, wire.OPT_GO):
        name, wanted = rng.choice([b"nobody", *(n.encode() for n in NAMES[3:])]), rng.choice([0, 1, 4, 65535])
        rows = rng.randbytes(2 * min(wanted, 40))
        return wire.U32.pack(rng.choice([len(name), 2**32 - 1, 0])) + name + wire.U16.pack(wanted) + rows
    if code in (wire.OPT_SET_META_CONTEXT, wire.OPT_LIST_META_CONTEXT):
        name, queries = _name(rng), rng.choice([0, 1, 3, 2**32 - 1])
        asked = [rng.choice([b"base:allocation", b"base:", b"x" * 5000, b""]) for _ in range(min(queries, 3))]
        body = b"".join(wire.U32.pack(len(query)) + query for query in asked)
        return wire.U32.pack(len(name)) + name + wire.U32.pack(queries) + body
    return b""


def _go(rng: Random) -> bytes:
    """A good way into the transmission phase, with or without structured replies."""
    parts = []
    if rng.random() < 0.6:
        parts.append(wire.OPTION.pack(wire.OPTION_MAGIC, wire.OPT_STRUCTURED_REPLY, 0))
        context = wire.U32.pack(6) + b"victim" + wire.U32.pack(1) + wire.U32.pack(15) + b"base:allocation"
        parts.append(wire.OPTION.pack(wire.OPTION_MAGIC, wire.OPT_SET_META_CONTEXT, len(context)) + context)
    data = wire.U32.pack(6) + b"victim" + wire.U16.pack(0)
    parts.append(wire.OPTION.pack(wire.OPTION_MAGIC, wire.OPT_GO, len(data)) + data)
    return b"".join(parts)


def _request(rng: Random, size_bytes: int) -> bytes:
    command = rng.choice(COMMANDS) if rng.random() < 0.3 else rng.choice([0, 1, 1, 3, 4, 5, 6, 7])
    if command == wire.CMD_DISC and rng.random() < 0.98:
        command = wire.CMD_READ
    flags = rng.choice([0, 0, 0, 1, 2, 4, 8, 16, 31, 65535])
    offset = rng.choice([0, rng.randrange(size_bytes), size_bytes - 1, size_bytes, 2**63, 2**64 - 1])
    length = rng.choice([4096, rng.choice(EDGES), rng.randrange(1, PAYLOAD_BYTES_MAX)])
    if rng.random() < 0.02:
        length = rng.choice(HUGE)
    if command == wire.CMD_READ:
        length = length if rng.random() < 0.02 else length % (256 * KiB)
    magic = wire.REQUEST_MAGIC if rng.random() < 0.999 else rng.getrandbits(32)
    head = wire.REQUEST.pack(magic, flags, command, rng.randbytes(8), offset, length)
    if command != wire.CMD_WRITE:
        return head
    if length > PAYLOAD_BYTES_MAX and rng.random() < 0.98:
        head = wire.REQUEST.pack(magic, flags, command, bytes(8), offset, 4096)
        length = 4096
    return head + rng.randbytes(min(length, PAYLOAD_BYTES_MAX))


def _damaged(rng: Random, parts: list[bytes]) -> list[bytes]:
    """Flip, drop, repeat or cut somewhere."""
    at = rng.randrange(len(parts))
    part = bytearray(parts[at])
    for _ in range(rng.choice([1, 1, 4])):
        if part:
            part[rng.randrange(len(part))] ^= 1 << rng.randrange(8)
    change = rng.choice(["flip", "drop", "repeat", "cut"])
    if change == "flip":
        return [*parts[:at], bytes(part), *parts[at + 1 :]]
    if change == "drop":
        return [*parts[:at], *parts[at + 1 :]] or parts
    if change == "repeat":
        return [*parts[:at], parts[at], *parts[at:]]
    return [*parts[:at], parts[at][: rng.randrange(len(parts[at]) + 1)]]
