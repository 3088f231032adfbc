# SPDX-License-Identifier: Apache-2.0
"""The asking end: one connection to a paired site, requests sent ahead, answers matched in order."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from stargate.errors import BY_CODE, NoSpace, PeerError, PeerProtocol, PeerRefused, PeerUnreachable, Unavailable
from stargate.peer.frame import HASHES_MAX, PUT_BYTES_MAX, REPLIES
from stargate.peer.identity import PeerSet, identify
from stargate.peer.link import IDLE_SECONDS, Link, raise_transport
from stargate.peer.wire import PROTOCOL_VERSION, Error, Hello, Message, Ping, Pong, Status, Welcome
from stargate.transport import Transport

OUTSTANDING_MAX = 24
"""Unanswered requests. Answers are short (about 1 KiB), so all of them fit in socket buffers and neither end can block
the other.
"""

R = TypeVar("R", bound=Message)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a paired site listens for bytes."""

    address: str
    port: int
    site_id: str


class Pending(Generic[R]):
    """An answer to come."""

    def __init__(self, client: PeerClient, request: int, expected: type[R], done: Callable[[R], None] | None) -> None:
        self._client = client
        self.request = request
        self.expected = expected
        self.value: R | None = None
        self._done = done

    def settle(self, message: Message) -> None:
        if not isinstance(message, self.expected):
            raise PeerProtocol("the other site answered something else than was asked", type(message).__name__)
        self.value = message
        if self._done is not None:
            self._done(message)

    def result(self) -> R:
        """Wait; raises PeerUnreachable, PeerProtocol, or what the other site refused with."""
        while self.value is None:
            self._client.pump()
        return self.value


class PeerClient:
    """Not thread-safe, except `abort`."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._pending: deque[Pending[Message]] = deque()
        self._next_request = 1
        self.welcome: Welcome | None = None

    @classmethod
    def connect(
        cls, target: Target, transport: Transport, peers: PeerSet, own_site_id: str, session: str
    ) -> PeerClient:
        """A proven stream to that very site, then HELLO. Raises PeerUnreachable or PeerRefused."""
        try:
            stream = transport.connect(target.address, target.port, IDLE_SECONDS)
        except OSError as exc:
            raise_transport(exc)
        client = cls(Link(stream, REPLIES))
        try:
            if identify(stream.certificate(), peers)[0] != target.site_id:
                raise PeerRefused("another paired site answers at this address; correct the remote site's address")
            client._hello(own_site_id, session, target.site_id)
        except BaseException:
            client.close()
            raise
        return client

    def _hello(self, own_site_id: str, session: str, site_id: str) -> None:
        hello = Hello(PROTOCOL_VERSION, PROTOCOL_VERSION, own_site_id, session)
        welcome = self.request(hello, Welcome).result()
        if welcome.version != PROTOCOL_VERSION or welcome.site_id != site_id:
            raise PeerProtocol("the other site answers as another site or in another version", str(welcome))
        if not 0 < welcome.hashes_max <= HASHES_MAX or not 0 < welcome.put_bytes_max <= PUT_BYTES_MAX:
            raise PeerProtocol("the other site states limits that do not exist", str(welcome))
        self.welcome = welcome

    def request(self, message: Message, expected: type[R], done: Callable[[R], None] | None = None) -> Pending[R]:
        """Send now, answer later; `done` is called once with the answer, in the order of the requests."""
        while len(self._pending) >= OUTSTANDING_MAX:
            self.pump()
        pending = Pending(self, self._next_request, expected, done)
        self._next_request += 1
        self._pending.append(cast("Pending[Message]", pending))
        try:
            self.link.send(message, pending.request)
        except PeerUnreachable:
            self._last_words()
            raise
        return pending

    def _last_words(self) -> None:
        """A side that refuses says why before it closes: prefer that to `connection reset`."""
        with contextlib.suppress(PeerUnreachable, PeerProtocol):
            for _ in range(OUTSTANDING_MAX):
                self.pump()

    def pump(self) -> None:
        """Take one message off the link."""
        found = self.link.receive()
        if found is None:
            raise PeerUnreachable("the other site closed the connection; it will be resumed")
        header, message = found
        if isinstance(message, Status):
            return
        if isinstance(message, Error):
            raise _refusal(message)
        if not self._pending or header.request != self._pending[0].request:
            raise PeerProtocol("the other site answered what was not asked", f"request {header.request}")
        self._pending.popleft().settle(message)

    def drain(self) -> None:
        """Wait for every answer that is due."""
        while self._pending:
            self.pump()

    def ping(self) -> None:
        """Show life while nothing else is sent; returns when the other side answered."""
        self.request(Ping(), Pong).result()

    def abort(self) -> None:
        """From any thread: fail whatever waits on this connection."""
        self.link.abort()

    def close(self) -> None:
        self.link.close()


def _refusal(error: Error) -> Exception:
    """What the other site said, as an exception. Its codes are believed only so far as a peer may cause them here."""
    wanted = BY_CODE.get(error.code, PeerRefused)
    if issubclass(wanted, PeerError | NoSpace | Unavailable):
        return wanted(error.message, "said by the other site")
    return PeerRefused(error.message, f"said by the other site ({error.code})")
