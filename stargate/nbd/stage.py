# SPDX-License-Identifier: Apache-2.0
"""The hot path: parse the complete requests in a connection's buffer and stage them at its export.

Staging never waits. Replies to reads and refusals are queued at once; the cookies of changes are kept until the server
has committed the whole batch (`Connection.written`) or knows it durable (`Connection.durable`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from select import EPOLLOUT

from stargate.errors import StargateError
from stargate.nbd import requests, wire
from stargate.nbd.connection import BACKLOG_BYTES, LATER_BYTES_MAX, Connection, LateRead, Transfer
from stargate.nbd.exports import Buffer, ConnInfo, Export
from stargate.units import BLOCK_BYTES, KiB, MiB

MAX_REQUESTS = 256
"""Requests of one connection in one batch: others get their turn after it."""

MAX_READ_BYTES = 2 * MiB
"""The batch ends with the READ that goes beyond this."""

LATER_BYTES = 2 * MiB
"""A READ of so much is fetched beside the loop where that can be done: others would wait for it. Of shorter ones two
threads at work cost more than they gain (docs/bench.md)."""

EARLY_BYTES = 32 * KiB
"""So much of what was read is sent before the batch ends: the client works on it while we read on."""

_COST = {wire.CMD_BLOCK_STATUS: 32, wire.CMD_TRIM: 8, wire.CMD_WRITE_ZEROES: 8}
"""What takes longer than a READ or WRITE of a block counts for several requests."""

_PIECE_BYTES = 64 * KiB  # a large WRITE is staged in pieces of at least this much, but for its last
_FIRST_LOOK = 256 * KiB
_READ_MAX = wire.MAXIMUM_PAYLOAD_BYTES
_HEADER = wire.REQUEST.size

log = logging.getLogger(__name__)


def stage(conn: Connection) -> None:
    """Stages what is complete. Afterwards `conn.more` tells whether it stopped short of its input."""
    export, info, buffer = conn.export, conn.info, conn.buffer
    conn.more = False
    if export is None or info is None or buffer is None:
        return
    if conn.transfer is not None and not _transfer(conn, export, info, conn.transfer, buffer):
        return
    unpack = wire.REQUEST.unpack_from
    limit = export.size_bytes
    fast = 0 if export.read_only else len(buffer) - _HEADER
    head, end = conn.head, conn.end
    written = conn.written
    budget = MAX_REQUESTS
    ceiling = min(BACKLOG_BYTES, conn.out_bytes + MAX_READ_BYTES)
    read_until = info.read_bytes + MAX_READ_BYTES  # what was sent early counts, too
    while end - head >= _HEADER:
        if (
            budget <= 0
            or conn.out_bytes >= ceiling
            or info.read_bytes >= read_until
            or conn.later_bytes >= LATER_BYTES_MAX
        ):
            conn.more = True
            break
        budget -= 1
        magic, flags, command, cookie, offset, length = unpack(buffer, head)
        body = head + _HEADER
        if magic != wire.REQUEST_MAGIC or command == wire.CMD_DISC:
            conn.closing = True
            head = end
            break
        if command != wire.CMD_WRITE:
            head = body
            _request(conn, export, info, flags, command, cookie, offset, length)
            if command in _COST:
                budget -= _COST[command]
        elif flags or not 0 < length <= fast or offset + length > limit:
            conn.head = body
            complete = _begin_transfer(conn, export, info, buffer, (flags, cookie, offset, length))
            head = conn.head
            if not complete:
                break
        elif body + length > end:
            break
        else:
            head = body + length
            try:
                export.write(offset, buffer[body:head])
            except Exception as error:
                _refuse(conn, command, cookie, error)
                continue
            conn.staged = True
            info.writes += 1
            info.written_bytes += length
            written.append(cookie)
    conn.head = head


def _request(
    conn: Connection, export: Export, info: ConnInfo, flags: int, command: int, cookie: bytes, offset: int, length: int
) -> None:
    """Everything but WRITE and DISC."""
    if command == wire.CMD_READ and not flags and 0 < length <= _READ_MAX and offset + length <= export.size_bytes:
        _read(conn, export, info, cookie, offset, length)
        return
    error = requests.validate(command, flags, offset, length, export, structured=conn.structured, status=conn.status)
    if error:
        info.errors += 1
        conn.queue(requests.error_reply(command, cookie, error, structured=conn.structured))
    elif command == wire.CMD_READ:
        _read(conn, export, info, cookie, offset, length)
    else:
        _other(conn, export, info, flags, command, cookie, offset, length)


def answer_later(read: LateRead, parts: Sequence[Buffer] | None) -> None:
    """Queues the reply of a read that was put off; without bytes it is made now."""
    conn = read.conn
    if conn.export is None or conn.info is None:
        return
    if parts is None or sum(map(len, parts)) != read.length:
        _read_now(conn, conn.export, conn.info, read.cookie, read.offset, read.length)
    else:
        _queue_data(conn, conn.info, read.cookie, read.offset, read.length, parts)


def _read(conn: Connection, export: Export, info: ConnInfo, cookie: bytes, offset: int, length: int) -> None:
    if length >= LATER_BYTES and conn.later is not None:
        try:
            job = export.read_later(offset, length)
        except Exception as error:
            _refuse(conn, wire.CMD_READ, cookie, error)
            return
        if job is not None:
            conn.later(LateRead(conn, cookie, offset, length, job))
            return
    _read_now(conn, export, info, cookie, offset, length)


def _read_now(conn: Connection, export: Export, info: ConnInfo, cookie: bytes, offset: int, length: int) -> None:
    try:
        parts = export.read(offset, length)
        if sum(map(len, parts)) != length:
            raise StargateError("internal error", f"export {export.name} returned a wrong length for {offset}+{length}")
    except Exception as error:
        _refuse(conn, wire.CMD_READ, cookie, error)
        return
    _queue_data(conn, info, cookie, offset, length, parts)


def _queue_data(
    conn: Connection, info: ConnInfo, cookie: bytes, offset: int, length: int, parts: Sequence[Buffer]
) -> None:
    info.reads += 1
    info.read_bytes += length
    conn.out.append(requests.data_header(cookie, offset, length, structured=conn.structured))
    conn.out.extend(parts)
    conn.out_bytes += len(conn.out[-1 - len(parts)]) + length
    if conn.out_bytes >= EARLY_BYTES and not conn.mask & EPOLLOUT:
        conn.send()


def _other(
    conn: Connection, export: Export, info: ConnInfo, flags: int, command: int, cookie: bytes, offset: int, length: int
) -> None:
    """FLUSH, TRIM, WRITE_ZEROES, CACHE, BLOCK_STATUS, after validation."""
    try:
        if command in (wire.CMD_TRIM, wire.CMD_WRITE_ZEROES):
            export.zero(offset, length, command == wire.CMD_TRIM or not flags & wire.CMD_FLAG_NO_HOLE)
            conn.staged = True
            info.writes += 1
            (conn.durable if flags & wire.CMD_FLAG_FUA else conn.written).append(cookie)
        elif command == wire.CMD_FLUSH:
            info.flushes += 1
            conn.durable.append(cookie)
        elif command == wire.CMD_BLOCK_STATUS:
            length = min(length, wire.MAX_STATUS_BYTES)
            one = bool(flags & wire.CMD_FLAG_REQ_ONE)
            extents = _first_extent(export, offset, length) if one else export.extents(offset, length)
            conn.queue(requests.status_reply(cookie, extents, length, one=one))
        else:
            conn.queue(requests.simple_reply(cookie))  # CACHE is a hint; reads are cached by the kernel anyway
    except Exception as error:
        _refuse(conn, command, cookie, error)


def _first_extent(export: Export, offset: int, length: int) -> list[tuple[int, int]]:
    """As `export.extents`, but looks no further than the first one needs: mostly it is short."""
    window = _FIRST_LOOK
    while True:
        extents = export.extents(offset, min(window, length))
        if window >= length or extents[0][0] < window:
            return extents
        window *= 8


def _begin_transfer(
    conn: Connection, export: Export, info: ConnInfo, buffer: memoryview, request: tuple[int, bytes, int, int]
) -> bool:
    """A WRITE (flags, cookie, offset, length) that is refused, has FUA or is too large. True when complete."""
    flags, cookie, offset, length = request
    error = requests.validate(
        wire.CMD_WRITE, flags, offset, length, export, structured=conn.structured, status=conn.status
    )
    transfer = conn.transfer = Transfer(cookie, flags, offset, length, error)
    return _transfer(conn, export, info, transfer, buffer)


def _transfer(conn: Connection, export: Export, info: ConnInfo, transfer: Transfer, buffer: memoryview) -> bool:
    """Stages (or skips) what has arrived of a payload; True when that was all of it.

    A cut connection leaves a prefix of a write that was never acknowledged, as a disk may.
    """
    size = min(transfer.left, conn.end - conn.head)
    if not transfer.error and size < transfer.left:
        size -= (transfer.offset + size) % BLOCK_BYTES  # only the last piece may end inside a block
        if size < _PIECE_BYTES:
            return False  # the buffer is larger than a piece, so more can arrive
    if size and not transfer.error:
        try:
            export.write(transfer.offset, buffer[conn.head : conn.head + size])
        except Exception as error:
            transfer.error = _number(error)
        else:
            conn.staged = True
            info.written_bytes += size
    conn.head += size
    transfer.offset += size
    transfer.left -= size
    if transfer.left:
        return False
    conn.transfer = None
    if transfer.error:
        info.errors += 1
        conn.queue(requests.simple_reply(transfer.cookie, transfer.error))
    else:
        info.writes += 1
        (conn.durable if transfer.flags & wire.CMD_FLAG_FUA else conn.written).append(transfer.cookie)
    return True


def _refuse(conn: Connection, command: int, cookie: bytes, error: Exception) -> None:
    if conn.info is not None:
        conn.info.errors += 1
    conn.queue(requests.error_reply(command, cookie, _number(error), structured=conn.structured))


def _number(error: Exception) -> int:
    if not isinstance(error, StargateError):
        log.error("unforeseen error from an export", exc_info=error)
    return requests.errno_of(error)
