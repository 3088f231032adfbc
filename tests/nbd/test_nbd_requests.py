# SPDX-License-Identifier: Apache-2.0
"""Rules and reply layouts of transmission requests."""

from __future__ import annotations

import pytest
from nbd_kit import MemoryExport

from stargate import errors
from stargate.nbd import requests, wire

SIZE = 1 << 20
COOKIE = b"cookie!!"


def check(command: int, flags: int, offset: int, length: int, *, read_only: bool = False, plain: bool = False) -> int:
    export = MemoryExport("disk", SIZE)
    export.read_only = read_only
    return requests.validate(command, flags, offset, length, export, structured=not plain, status=not plain)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (wire.CMD_READ, wire.CMD_FLAG_DF),
        (wire.CMD_WRITE, wire.CMD_FLAG_FUA),
        (wire.CMD_TRIM, wire.CMD_FLAG_FUA),
        (wire.CMD_CACHE, 0),
        (wire.CMD_WRITE_ZEROES, wire.CMD_FLAG_FUA | wire.CMD_FLAG_NO_HOLE | wire.CMD_FLAG_FAST_ZERO),
        (wire.CMD_BLOCK_STATUS, wire.CMD_FLAG_REQ_ONE),
    ],
)
def test_it_accepts_the_whole_disk_and_odd_pieces(command: int, flags: int) -> None:
    assert check(command, flags, 0, SIZE) == 0
    assert check(command, flags, SIZE - 1, 1) == 0


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (wire.CMD_READ, wire.EINVAL),
        (wire.CMD_WRITE, wire.ENOSPC),
        (wire.CMD_WRITE_ZEROES, wire.ENOSPC),
        (wire.CMD_TRIM, wire.EINVAL),
        (wire.CMD_BLOCK_STATUS, wire.EINVAL),
    ],
)
def test_it_refuses_what_lies_outside(command: int, expected: int) -> None:
    assert check(command, 0, SIZE, 1) == expected
    assert check(command, 0, 1, SIZE) == expected
    assert check(command, 0, (1 << 64) - 1, 4096) == expected
    assert check(command, 0, 0, 0) == wire.EINVAL


def test_it_refuses_payloads_above_the_advertised_maximum() -> None:
    assert check(wire.CMD_READ, 0, 0, (32 << 20) + 1) == wire.EINVAL
    assert check(wire.CMD_WRITE, 0, 0, 0xFFFFFFFF) == wire.EINVAL


def test_it_refuses_unknown_commands_and_flags() -> None:
    assert check(8, 0, 0, 4096) == wire.EINVAL
    assert check(wire.CMD_READ, wire.CMD_FLAG_NO_HOLE, 0, 4096) == wire.EINVAL
    assert check(wire.CMD_WRITE, 1 << 9, 0, 4096) == wire.EINVAL
    assert check(wire.CMD_FLUSH, 0, 0, 4096) == wire.EINVAL


def test_it_refuses_what_was_not_negotiated() -> None:
    assert check(wire.CMD_READ, wire.CMD_FLAG_DF, 0, 4096, plain=True) == wire.EINVAL
    assert check(wire.CMD_BLOCK_STATUS, 0, 0, 4096, plain=True) == wire.EINVAL


def test_a_read_only_export_refuses_changes_alone() -> None:
    for command in (wire.CMD_WRITE, wire.CMD_TRIM, wire.CMD_WRITE_ZEROES):
        assert check(command, 0, 0, 4096, read_only=True) == wire.EPERM
    assert check(wire.CMD_READ, 0, 0, 4096, read_only=True) == 0
    assert check(wire.CMD_FLUSH, 0, 0, 0, read_only=True) == 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.LogFull("x"), wire.ENOSPC),
        (errors.ReadOnly("x"), wire.EPERM),
        (errors.ExportDown("x"), wire.ESHUTDOWN),
        (errors.StaleGeneration("x"), wire.ESHUTDOWN),
        (errors.DamagedData("x"), wire.EIO),
        (errors.LogFrozen("x"), wire.EIO),
        (errors.InvalidArgument("x"), wire.EINVAL),
        (ValueError("x"), wire.EIO),
    ],
)
def test_it_maps_errors(error: Exception, expected: int) -> None:
    assert requests.errno_of(error) == expected


def test_replies_byte_for_byte() -> None:
    assert requests.simple_reply(COOKIE, 28) == bytes.fromhex("674466980000001c") + COOKIE
    assert requests.data_header(COOKIE, 5, 3, structured=False) == bytes.fromhex("6744669800000000") + COOKIE
    chunk = bytes.fromhex("668e33ef 0001 0001") + COOKIE + bytes.fromhex("0000000b 0000000000000005")
    assert requests.data_header(COOKIE, 5, 3, structured=True) == chunk
    error = bytes.fromhex("668e33ef 0001 8001") + COOKIE + bytes.fromhex("00000006 00000005 0000")
    assert requests.error_reply(wire.CMD_READ, COOKIE, 5, structured=True) == error
    assert requests.error_reply(wire.CMD_WRITE, COOKIE, 5, structured=True) == requests.simple_reply(COOKIE, 5)


def test_status_merges_and_cuts() -> None:
    head = bytes.fromhex("668e33ef 0001 0005") + COOKIE
    answer = requests.status_reply(COOKIE, [(10, 0), (10, 0), (10, 3), (99, 0)], 40, one=False)
    body = bytes.fromhex("00000001 00000014 00000000 0000000a 00000003 0000000a 00000000")
    assert answer == head + len(body).to_bytes(4, "big") + body
    one = requests.status_reply(COOKIE, [(10, 0), (10, 0), (10, 3)], 40, one=True)
    assert one == head + bytes.fromhex("0000000c 00000001 00000014 00000000")


def test_status_has_a_largest_answer() -> None:
    answer = requests.status_reply(COOKIE, [(1, at % 2) for at in range(100_000)], 100_000, one=False)
    assert len(answer) == 20 + 4 + 8 * wire.MAX_STATUS_EXTENTS
