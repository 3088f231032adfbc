# SPDX-License-Identifier: Apache-2.0
"""Makes the PNG files of a browser small: at most 256 colours, as a page of text and lines has few that matter.

Reads what Chromium writes (8 bits a channel, RGB or RGBA, not interlaced) and nothing else; transparency is dropped.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS = 256
EXACT = 48
Colour = tuple[int, int, int]


def shrink(path: Path) -> None:
    """Rewrite the file with a palette; a colour that is not in it becomes the nearest that is."""
    width, height, pixels = _read(path)
    seen = Counter(pixels)
    palette = _chosen([colour for colour, _count in seen.most_common()])
    number = {colour: at for at, colour in enumerate(palette)}
    for colour in seen:
        if colour not in number:
            number[colour] = min(range(len(palette)), key=lambda at: _distance(palette[at], colour))
    rows = (bytes(number[pixel] for pixel in pixels[y * width : (y + 1) * width]) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    chunks = [
        (b"IHDR", header),
        (b"PLTE", b"".join(bytes(colour) for colour in palette)),
        (b"IDAT", data),
        (b"IEND", b""),
    ]
    path.write_bytes(SIGNATURE + b"".join(_chunk(kind, body) for kind, body in chunks))


def _chosen(colours: list[Colour]) -> list[Colour]:
    """Of `colours`, most frequent first: the first, then those that look like none before: rare hues stay."""
    chosen = colours[:EXACT]
    for apart in (40, 20, 10, 1):
        for colour in colours:
            if len(chosen) < COLOURS and all(_distance(colour, other) >= apart * apart for other in chosen):
                chosen.append(colour)
    return chosen


def _distance(a: Colour, b: Colour) -> int:
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _chunks(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(text):
        (length,) = struct.unpack_from(">I", text, at)
        yield text[at + 4 : at + 8], text[at + 8 : at + 8 + length]
        at += 12 + length


def _read(path: Path) -> tuple[int, int, list[Colour]]:
    parts = list(_chunks(path.read_bytes()))
    width, height, depth, kind, _compression, _filter, interlaced = struct.unpack(">IIBBBBB", parts[0][1])
    if depth != 8 or kind not in (2, 6) or interlaced:
        raise ValueError(f"{path} is not a PNG as Chromium writes it")
    channels = 3 if kind == 2 else 4
    lines = zlib.decompress(b"".join(body for name, body in parts if name == b"IDAT"))
    stride, above = width * channels, bytearray(width * channels)
    pixels: list[Colour] = []
    for start in range(0, height * (stride + 1), stride + 1):
        above = _unfiltered(lines[start], bytearray(lines[start + 1 : start + 1 + stride]), above, channels)
        pixels += zip(above[0::channels], above[1::channels], above[2::channels], strict=True)
    return width, height, pixels


def _unfiltered(kind: int, line: bytearray, above: bytearray, step: int) -> bytearray:
    """One line of pixels from its differences (PNG specification, filters 0 to 4)."""
    for at in range(len(line) if kind else 0):
        left, up = line[at - step] if at >= step else 0, above[at]
        corner = above[at - step] if at >= step else 0
        line[at] = (line[at] + (0, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]) & 255
    return line


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda value: abs(guess - value))
