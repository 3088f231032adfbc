# SPDX-License-Identifier: Apache-2.0
"""Rules for one transmission request, and the layout of its replies. Pure: no sockets, no state."""

from __future__ import annotations

from collections.abc import Sequence

from stargate import errors
from stargate.nbd import wire
from stargate.nbd.exports import Export

_ALLOWED_FLAGS = {
    wire.CMD_READ: wire.CMD_FLAG_DF | wire.CMD_FLAG_FUA,
    wire.CMD_WRITE: wire.CMD_FLAG_FUA,
    wire.CMD_FLUSH: wire.CMD_FLAG_FUA,
    wire.CMD_TRIM: wire.CMD_FLAG_FUA,
    wire.CMD_CACHE: wire.CMD_FLAG_FUA,
    wire.CMD_WRITE_ZEROES: wire.CMD_FLAG_FUA | wire.CMD_FLAG_NO_HOLE | wire.CMD_FLAG_FAST_ZERO,
    wire.CMD_BLOCK_STATUS: wire.CMD_FLAG_REQ_ONE | wire.CMD_FLAG_FUA,
}
"""A client may set FUA on any command once it is advertised; DISC is not judged at all."""

_CHANGES = frozenset({wire.CMD_WRITE, wire.CMD_TRIM, wire.CMD_WRITE_ZEROES})
_PAYLOAD_BOUND = frozenset({wire.CMD_READ, wire.CMD_WRITE})

_ERRNO: tuple[tuple[type[errors.StargateError], int], ...] = (
    (errors.ReadOnly, wire.EPERM),
    (errors.ExportDown, wire.ESHUTDOWN),
    (errors.NotFound, wire.ESHUTDOWN),
    (errors.Fenced, wire.ESHUTDOWN),
    (errors.NoSpace, wire.ENOSPC),
    (errors.OperatorError, wire.EINVAL),
    (errors.StargateError, wire.EIO),
)
"""First match wins. A disk that was deleted or fenced under its client is gone for it: ESHUTDOWN."""


def errno_of(error: BaseException) -> int:
    """The errno a client gets for an error of the engine; anything unforeseen is EIO."""
    for kind, number in _ERRNO:
        if isinstance(error, kind):
            return number
    return wire.EIO


def validate(
    command: int, flags: int, offset: int, length: int, export: Export, *, structured: bool, status: bool
) -> int:
    """0, or the errno of a request that must not reach the export.

    `structured` and `status`: structured replies and base:allocation were negotiated on this connection.
    """
    allowed = _ALLOWED_FLAGS.get(command)
    if allowed is None or flags & ~allowed:
        return wire.EINVAL
    if flags & wire.CMD_FLAG_DF and not structured:
        return wire.EINVAL
    if command == wire.CMD_FLUSH:
        return wire.EINVAL if offset or length else 0
    if command in _CHANGES and export.read_only:
        return wire.EPERM
    if command in _PAYLOAD_BOUND and length > wire.MAXIMUM_PAYLOAD_BYTES:
        return wire.EINVAL
    if offset + length > export.size_bytes:
        return wire.ENOSPC if command in (wire.CMD_WRITE, wire.CMD_WRITE_ZEROES) else wire.EINVAL
    if length == 0:
        return wire.EINVAL
    if command == wire.CMD_BLOCK_STATUS and not status:
        return wire.EINVAL
    return 0


def simple_reply(cookie: bytes, error: int = 0) -> bytes:
    return wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, error, cookie)


def error_reply(command: int, cookie: bytes, error: int, *, structured: bool) -> bytes:
    """READ and BLOCK_STATUS must answer in chunks once those are negotiated; for the rest a simple reply is allowed."""
    if not structured or command not in (wire.CMD_READ, wire.CMD_BLOCK_STATUS):
        return simple_reply(cookie, error)
    header = wire.CHUNK.pack(wire.CHUNK_MAGIC, wire.CHUNK_FLAG_DONE, wire.CHUNK_ERROR, cookie, wire.ERROR_CHUNK.size)
    return header + wire.ERROR_CHUNK.pack(error, 0)


def data_header(cookie: bytes, offset: int, length: int, *, structured: bool) -> bytes:
    """What precedes the bytes of a READ: always one chunk, so DF needs nothing special."""
    if not structured:
        return wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, 0, cookie)
    return wire.DATA_CHUNK.pack(
        wire.CHUNK_MAGIC, wire.CHUNK_FLAG_DONE, wire.CHUNK_OFFSET_DATA, cookie, length + 8, offset
    )


def status_reply(cookie: bytes, extents: Sequence[tuple[int, int]], length: int, *, one: bool) -> bytes:
    """BLOCK_STATUS: equal neighbours merged, cut to `length` bytes and to the extents one answer may hold."""
    merged: list[tuple[int, int]] = []
    left = length
    for size, state in extents:
        size = min(size, left)
        if size <= 0:
            continue
        left -= size
        if merged and merged[-1][1] == state:
            merged[-1] = (merged[-1][0] + size, state)
        elif len(merged) >= (1 if one else wire.MAX_STATUS_EXTENTS):
            break
        else:
            merged.append((size, state))
    body = wire.U32.pack(wire.BASE_ALLOCATION_ID) + b"".join(wire.EXTENT.pack(*extent) for extent in merged)
    header = wire.CHUNK.pack(wire.CHUNK_MAGIC, wire.CHUNK_FLAG_DONE, wire.CHUNK_BLOCK_STATUS, cookie, len(body))
    return header + body
