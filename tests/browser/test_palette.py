# SPDX-License-Identifier: Apache-2.0
"""Pictures of the documentation keep what they show when they are made small."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

from tests.browser.palette import SIGNATURE, _chunk, _chunks, shrink

WIDTH, HEIGHT = 7, 25


def _filtered(kind: int, line: bytes, above: bytes) -> bytes:
    """One line as an encoder writes it; 4 is Paeth, as the PNG specification words it."""
    found = bytearray()
    for at, value in enumerate(line):
        a, b, c = (line[at - 3], above[at], above[at - 3]) if at >= 3 else (0, above[at], 0)
        pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        paeth = a if pa <= pb and pa <= pc else b if pb <= pc else c
        found.append((value - (0, a, b, (a + b) // 2, paeth)[kind]) & 255)
    return bytes([kind]) + bytes(found)


def _written(path: Path, lines: list[bytes]) -> None:
    body = b"".join(_filtered(y % 5, line, lines[y - 1] if y else bytes(3 * WIDTH)) for y, line in enumerate(lines))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    path.write_bytes(SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(body)) + _chunk(b"IEND", b""))


def test_it_keeps_every_pixel_of_a_picture_with_few_colours(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    lines = [chance.randbytes(3 * WIDTH) for _line in range(HEIGHT)]  # 175 pixels: fewer than 256 colours
    picture = tmp_path / "picture.png"
    _written(picture, lines)
    shrink(picture)
    parts = dict(_chunks(picture.read_bytes()))
    assert struct.unpack(">IIBB", parts[b"IHDR"][:10]) == (WIDTH, HEIGHT, 8, 3)
    numbers, palette = zlib.decompress(parts[b"IDAT"]), parts[b"PLTE"]
    for y, line in enumerate(lines):
        row = numbers[y * (WIDTH + 1) + 1 : (y + 1) * (WIDTH + 1)]
        assert b"".join(palette[3 * at : 3 * at + 3] for at in row) == line
