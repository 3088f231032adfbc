# SPDX-License-Identifier: Apache-2.0
"""Fixed newstyle negotiation, server side. Pure: bytes in, replies out, no sockets and no clock.

`feed` looks at one element at a time, so its caller can stop between two of them when the peer does not read replies.
Nothing of the peer's is allocated before its length was bounded; an export name is only ever looked up, never a path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

from stargate.errors import NotFound, StargateError, Unavailable
from stargate.nbd import wire
from stargate.nbd.exports import Buffer, Export

Tls: TypeAlias = Literal["none", "offered", "required"]
"""Whether STARTTLS is answered, and whether anything else is before it."""


class Directory(Protocol):
    """The part of `Exports` that negotiation needs."""

    def lookup(self, name: str) -> Export: ...

    def names(self) -> list[str]: ...


class _Bad(Exception):
    """An option whose data is answered with an error reply; the connection goes on."""

    def __init__(self, reply: int, text: str) -> None:
        super().__init__(text)
        self.reply = reply
        self.text = text


class Handshake:
    """One connection until its transmission phase.

    `chosen` is the export once `finished`. `closing` means: send what was returned, then disconnect. `starting_tls`
    means: send what was returned, speak TLS from then on, and call `tls_started`; until then nothing is understood.
    """

    def __init__(self, directory: Directory, tls: Tls = "none") -> None:
        self._directory = directory
        self._tls: Tls = tls
        self._encrypted = False
        self.starting_tls = False
        self._have_flags = False
        self._fixed = False
        self._no_zeroes = False
        self._options = 0
        self._skip = 0
        self._skipped_option = 0
        self._status_for: str | None = None
        self.structured = False
        self.status = False
        self.chosen: Export | None = None
        self.chosen_name = ""
        self.finished = False
        self.closing = False
        self._handlers: dict[int, Callable[[bytes], bytes]] = {
            wire.OPT_ABORT: self._abort,
            wire.OPT_STARTTLS: self._starttls,
            wire.OPT_LIST: self._list,
            wire.OPT_INFO: lambda data: self._info(wire.OPT_INFO, data),
            wire.OPT_GO: lambda data: self._info(wire.OPT_GO, data),
            wire.OPT_STRUCTURED_REPLY: self._structured_reply,
            wire.OPT_LIST_META_CONTEXT: lambda data: self._meta_context(wire.OPT_LIST_META_CONTEXT, data),
            wire.OPT_SET_META_CONTEXT: lambda data: self._meta_context(wire.OPT_SET_META_CONTEXT, data),
        }

    @staticmethod
    def greeting() -> bytes:
        """What the server says first."""
        return wire.GREETING.pack(wire.INIT_MAGIC, wire.OPTION_MAGIC, wire.FLAG_FIXED_NEWSTYLE | wire.FLAG_NO_ZEROES)

    def feed(self, data: Buffer) -> tuple[int, bytes]:
        """(bytes used, bytes to send). Zero bytes used means: more input is needed, or the handshake is over."""
        if self.finished or self.closing or self.starting_tls:
            return 0, b""
        if not self._have_flags:
            return self._client_flags(data)
        if self._skip:
            return self._skip_some(len(data))
        if len(data) < wire.OPTION.size:
            return 0, b""
        magic, option, length = wire.OPTION.unpack_from(data)
        if magic != wire.OPTION_MAGIC or length > wire.MAX_SKIPPED_OPTION_BYTES or self._options >= wire.MAX_OPTIONS:
            return self._hang_up()
        if length > wire.MAX_OPTION_BYTES:
            if option == wire.OPT_EXPORT_NAME:
                return self._hang_up()
            self._skip, self._skipped_option = length, option
            return wire.OPTION.size, b""
        end = wire.OPTION.size + length
        if len(data) < end:
            return 0, b""
        self._options += 1
        return end, self._answer(option, bytes(data[wire.OPTION.size : end]))

    def tls_started(self) -> None:
        """The client is known and the line is private: what was agreed in the clear is forgotten, but for the flags."""
        self.starting_tls, self._encrypted, self._tls = False, True, "none"
        self.structured = False
        self._status_for = None

    def _client_flags(self, data: Buffer) -> tuple[int, bytes]:
        if len(data) < wire.CLIENT_FLAGS.size:
            return 0, b""
        (flags,) = wire.CLIENT_FLAGS.unpack_from(data)
        if flags & ~(wire.FLAG_FIXED_NEWSTYLE | wire.FLAG_NO_ZEROES):
            return self._hang_up()
        self._have_flags = True
        self._fixed = bool(flags & wire.FLAG_FIXED_NEWSTYLE)
        self._no_zeroes = bool(flags & wire.FLAG_NO_ZEROES)
        return wire.CLIENT_FLAGS.size, b""

    def _skip_some(self, available: int) -> tuple[int, bytes]:
        used = min(self._skip, available)
        self._skip -= used
        if self._skip or not used:
            return used, b""
        self._options += 1
        return used, _reply(self._skipped_option, wire.REP_ERR_TOO_BIG, b"option data is too long")

    def _hang_up(self) -> tuple[int, bytes]:
        self.closing = True
        return 0, b""

    def _answer(self, option: int, data: bytes) -> bytes:
        if self._tls == "required" and option not in (wire.OPT_STARTTLS, wire.OPT_ABORT):
            self.closing = self.closing or option == wire.OPT_EXPORT_NAME or not self._fixed
            return b"" if self.closing else _reply(option, wire.REP_ERR_TLS_REQD, b"this address takes TLS only")
        if option == wire.OPT_EXPORT_NAME:
            return self._export_name(data)
        if not self._fixed:
            self.closing = True
            return b""
        handler = self._handlers.get(option)
        if handler is None:
            return _reply(option, wire.REP_ERR_UNSUP, b"option not supported")
        try:
            return handler(data)
        except _Bad as bad:
            return _reply(option, bad.reply, bad.text.encode())

    def _export_name(self, data: bytes) -> bytes:
        try:
            name = _name(data)
            export = self._lookup(name)
        except _Bad:
            self.closing = True  # this old option has no error reply
            return b""
        self._choose(name, export)
        answer = wire.OLD_EXPORT.pack(export.size_bytes, self._flags(export))
        return answer if self._no_zeroes else answer + wire.EXPORT_NAME_PADDING

    def _abort(self, data: bytes) -> bytes:
        self.closing = True
        return _reply(wire.OPT_ABORT, wire.REP_ACK)

    def _starttls(self, data: bytes) -> bytes:
        if self._encrypted or data:
            raise _Bad(wire.REP_ERR_INVALID, "TLS is spoken already" if self._encrypted else "STARTTLS takes no data")
        if self._tls == "none":
            raise _Bad(wire.REP_ERR_UNSUP, "no TLS at this address")
        self.starting_tls = True
        return _reply(wire.OPT_STARTTLS, wire.REP_ACK)

    def _list(self, data: bytes) -> bytes:
        if data:
            raise _Bad(wire.REP_ERR_INVALID, "LIST takes no data")
        parts = []
        for name in self._directory.names():
            raw = name.encode()
            parts.append(_reply(wire.OPT_LIST, wire.REP_SERVER, wire.U32.pack(len(raw)) + raw))
        parts.append(_reply(wire.OPT_LIST, wire.REP_ACK))
        return b"".join(parts)

    def _info(self, option: int, data: bytes) -> bytes:
        raw_name, rest = _counted(data)
        if len(rest) < 2 or len(rest) != 2 + 2 * wire.U16.unpack_from(rest)[0]:
            raise _Bad(wire.REP_ERR_INVALID, "information requests do not fit the option's length")
        wanted = {wire.U16.unpack_from(rest, at)[0] for at in range(2, len(rest), 2)}
        name = _name(raw_name)
        export = self._lookup(name)
        if option == wire.OPT_GO:
            self._choose(name, export)
        infos = [wire.EXPORT_INFO.pack(wire.INFO_EXPORT, export.size_bytes, self._flags(export))]
        if wire.INFO_NAME in wanted:
            infos.append(wire.U16.pack(wire.INFO_NAME) + export.name.encode())
        if wire.INFO_DESCRIPTION in wanted and export.description:
            infos.append(wire.U16.pack(wire.INFO_DESCRIPTION) + export.description.encode()[: wire.MAX_TEXT_BYTES])
        infos.append(
            wire.BLOCK_SIZE_INFO.pack(
                wire.INFO_BLOCK_SIZE,
                wire.MINIMUM_BLOCK_BYTES,
                wire.PREFERRED_BLOCK_BYTES,
                wire.MAXIMUM_PAYLOAD_BYTES,
            )
        )
        replies = [_reply(option, wire.REP_INFO, info) for info in infos]
        return b"".join(replies) + _reply(option, wire.REP_ACK)

    def _structured_reply(self, data: bytes) -> bytes:
        if data:
            raise _Bad(wire.REP_ERR_INVALID, "STRUCTURED_REPLY takes no data")
        self.structured = True
        return _reply(wire.OPT_STRUCTURED_REPLY, wire.REP_ACK)

    def _meta_context(self, option: int, data: bytes) -> bytes:
        if not self.structured:
            raise _Bad(wire.REP_ERR_INVALID, "negotiate structured replies first")
        raw_name, rest = _counted(data)
        queries = _queries(rest)
        name = _name(raw_name)
        self._lookup(name)
        if option == wire.OPT_LIST_META_CONTEXT:
            found = not queries or not {b"base:", wire.BASE_ALLOCATION.encode()}.isdisjoint(queries)
            number = 0
        else:
            found = wire.BASE_ALLOCATION.encode() in queries
            self._status_for = name if found else None
            number = wire.BASE_ALLOCATION_ID
        answer = b""
        if found:
            answer = _reply(option, wire.REP_META_CONTEXT, wire.U32.pack(number) + wire.BASE_ALLOCATION.encode())
        return answer + _reply(option, wire.REP_ACK)

    def _lookup(self, name: str) -> Export:
        try:
            return self._directory.lookup(name)
        except NotFound as error:
            raise _Bad(wire.REP_ERR_UNKNOWN, error.message) from error
        except Unavailable as error:
            raise _Bad(wire.REP_ERR_SHUTDOWN, error.message) from error
        except StargateError as error:
            raise _Bad(wire.REP_ERR_POLICY, error.message) from error

    def _choose(self, name: str, export: Export) -> None:
        self.chosen = export
        self.chosen_name = name
        self.status = self._status_for == name
        self.finished = True

    def _flags(self, export: Export) -> int:
        return transmission_flags(export.read_only, structured=self.structured)


def transmission_flags(read_only: bool, *, structured: bool) -> int:
    """What an export can do. CAN_MULTI_CONN: a FLUSH covers all connections. FAST_ZERO: zeroes are one log record."""
    flags = wire.EXPORT_HAS_FLAGS | wire.EXPORT_SEND_FLUSH | wire.EXPORT_SEND_FUA
    flags |= wire.EXPORT_CAN_MULTI_CONN | wire.EXPORT_SEND_CACHE
    if structured:
        flags |= wire.EXPORT_SEND_DF
    if read_only:
        return flags | wire.EXPORT_READ_ONLY
    return flags | wire.EXPORT_SEND_TRIM | wire.EXPORT_SEND_WRITE_ZEROES | wire.EXPORT_SEND_FAST_ZERO


def _reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def _counted(data: bytes) -> tuple[bytes, bytes]:
    """Splits a u32-counted string from what follows it."""
    if len(data) < 4:
        raise _Bad(wire.REP_ERR_INVALID, "option data is too short")
    (length,) = wire.U32.unpack_from(data)
    if length > len(data) - 4:
        raise _Bad(wire.REP_ERR_INVALID, "a string is longer than the option")
    return data[4 : 4 + length], data[4 + length :]


def _queries(data: bytes) -> list[bytes]:
    if len(data) < 4:
        raise _Bad(wire.REP_ERR_INVALID, "option data is too short")
    (count,) = wire.U32.unpack_from(data)
    rest = data[4:]
    if count > len(rest) // 4:
        raise _Bad(wire.REP_ERR_INVALID, "more queries than the option can hold")
    queries = []
    for _ in range(count):
        query, rest = _counted(rest)
        queries.append(query)
    if rest:
        raise _Bad(wire.REP_ERR_INVALID, "bytes left over behind the queries")
    return queries


def _name(raw: bytes) -> str:
    if len(raw) > wire.MAX_NAME_BYTES:
        raise _Bad(wire.REP_ERR_TOO_BIG, f"export names have at most {wire.MAX_NAME_BYTES} bytes")
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise _Bad(wire.REP_ERR_INVALID, "the export name is not UTF-8") from None
    if "\0" in name:
        raise _Bad(wire.REP_ERR_INVALID, "the export name contains a nul byte")
    return name
