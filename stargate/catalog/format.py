# SPDX-License-Identifier: Apache-2.0
"""Bytes of a catalog file: one file header, then frames of JSON, each chained to the one before. Pure: no file is
touched here.

All integers are little endian. See docs/formats/catalog.md.
"""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple

from crc32c import crc32c

from stargate.errors import DamagedData, InvalidArgument, OperatorError
from stargate.units import MiB

VERSION = 1

FILE_MAGIC = b"PRISMCAT"
FRAME_MAGIC = b"\xf1CF1"
KNOWN_MAGIC = b"PRISMKNW"

FILE = struct.Struct("<8sHHIQ16sI")
FRAME = struct.Struct("<4sHHIQII")
KNOWN = struct.Struct("<8sQI")

STATE = 1
OPS = 2

FRAME_BYTES_MAX = 64 * MiB
"""Largest JSON body of a frame: bounds what a reader allocates."""

LAYOUTS: dict[str, tuple[struct.Struct, tuple[str, ...]]] = {
    "file header": (FILE, ("magic", "version", "reserved", "reserved", "generation", "file id", "crc")),
    "known": (KNOWN, ("magic", "seq", "crc")),
    "frame header": (FRAME, ("magic", "kind", "reserved", "length", "seq", "previous crc", "crc")),
}
"""Structure -> (struct, field names): what the page docs/formats/catalog.md is checked against."""


def pack_known(seq: int) -> bytes:
    body = KNOWN.pack(KNOWN_MAGIC, seq, 0)[:-4]
    return body + struct.pack("<I", crc32c(body))


def parse_known(raw: bytes) -> int:
    """Number of a frame that was durable; 0 when the note is missing, torn or damaged: nothing is known then."""
    if len(raw) < KNOWN.size or raw[: len(KNOWN_MAGIC)] != KNOWN_MAGIC:
        return 0
    _, seq, crc = KNOWN.unpack_from(raw)
    return int(seq) if crc32c(raw[: KNOWN.size - 4]) == crc else 0


class Frame(NamedTuple):
    """One frame: the state at its `seq`, or a list of ops. `end` is the byte behind it; `crc` chains the next one."""

    kind: int
    seq: int
    end: int
    crc: int
    body: Any


class Contents(NamedTuple):
    """What a catalog file says. `end` is the byte behind the last good frame; bytes after it are a torn frame.

    `state` is None when the catalog was never checkpointed. `seq` counts the frames since the catalog was made.
    """

    generation: int
    state: dict[str, Any] | None
    ops: list[dict[str, Any]]
    seq: int
    crc: int
    end: int


def damaged(path: str, position: int, reason: str) -> DamagedData:
    return DamagedData(
        f"the catalog {path} is damaged at byte {position}: {reason}; nothing was changed, restore it from a copy",
        detail=str(position),
    )


def pack_file(generation: int, file_id: bytes) -> bytes:
    body = FILE.pack(FILE_MAGIC, VERSION, 0, 0, generation, file_id, 0)[:-4]
    return body + struct.pack("<I", crc32c(body))


def pack_frame(kind: int, seq: int, previous: int, body: Any) -> bytes:
    """Raises InvalidArgument when the JSON exceeds FRAME_BYTES_MAX."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > FRAME_BYTES_MAX:
        raise InvalidArgument(f"a catalog frame of {len(text)} bytes exceeds {FRAME_BYTES_MAX}")
    head = FRAME.pack(FRAME_MAGIC, kind, 0, len(text), seq, previous, 0)[:-4]
    return head + struct.pack("<I", crc32c(text, crc32c(head))) + text


def frame_crc(frame: bytes) -> int:
    """The checksum of a packed frame, which the next one must name."""
    return int(FRAME.unpack_from(frame)[-1])


def parse_file(path: str, raw: bytes) -> tuple[int, int]:
    """Generation and checksum of the file header. Raises DamagedData, or OperatorError when a newer engine wrote it."""
    if len(raw) < FILE.size or raw[: len(FILE_MAGIC)] != FILE_MAGIC:
        raise damaged(path, 0, "this is no catalog file")
    _, version, _, _, generation, _, crc = FILE.unpack_from(raw)
    if crc32c(raw[: FILE.size - 4]) != crc:
        raise damaged(path, 0, "the file header fails its checksum")
    if version != VERSION:
        raise OperatorError(
            f"the catalog has format {version}, this engine knows {VERSION}; start the engine that wrote it"
        )
    return generation, crc


def parse_frame(raw: memoryview, offset: int) -> tuple[Frame, int] | None:
    """The frame at `offset` whose own checksum holds, with the checksum it follows; None when there is none."""
    if len(raw) < offset + FRAME.size:
        return None
    magic, kind, _, length, seq, previous, crc = FRAME.unpack_from(raw, offset)
    start = offset + FRAME.size
    if magic != FRAME_MAGIC or length > FRAME_BYTES_MAX or len(raw) < start + length:
        return None
    text = raw[start : start + length]
    if crc32c(text, crc32c(raw[offset : start - 4])) != crc:
        return None
    try:
        body = json.loads(bytes(text))
    except ValueError:
        return None
    wanted = dict if kind == STATE else list
    if kind not in (STATE, OPS) or not isinstance(body, wanted):
        return None
    return Frame(kind, seq, start + length, crc, body), previous


def parse_catalog(path: str, raw: bytes, generation: int) -> Contents:
    """All of a catalog file. A torn last frame is left out; raises DamagedData when it cannot be only that."""
    found, crc = parse_file(path, raw)
    if found != generation:
        raise damaged(path, 0, f"it says generation {found}")
    view = memoryview(raw)
    state: dict[str, Any] | None = None
    ops: list[dict[str, Any]] = []
    seq, end = 0, FILE.size
    while (parsed := parse_frame(view, end)) is not None:
        frame, previous = parsed
        first = end == FILE.size and frame.kind == STATE
        if previous != crc or (frame.seq != seq + 1 and not first) or (frame.kind == STATE and not first):
            break
        if frame.kind == STATE:
            state = frame.body
        else:
            ops += frame.body
        seq, crc, end = frame.seq, frame.crc, frame.end
    if generation > 1 and state is None:
        raise damaged(path, end, "the checkpoint is unreadable")
    _refuse_damage(path, raw, end)
    return Contents(generation, state, ops, seq, crc, end)


def _refuse_damage(path: str, raw: bytes, end: int) -> None:
    """Each frame is durable before the next is begun: a good frame behind a bad one proves that the bad one was
    good.
    """
    view = memoryview(raw)
    at = raw.find(FRAME_MAGIC, end)
    while at >= 0:
        if parse_frame(view, at) is not None:
            raise damaged(path, end, f"a good frame follows at byte {at}")
        at = raw.find(FRAME_MAGIC, at + 1)
