# SPDX-License-Identifier: Apache-2.0
"""One authenticated connection as the receiver sees it: HELLO, then BEGIN of one granted session, then questions and
items; or HELLO, then reading back of what both sites share.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, NamedTuple

from stargate.catalog.document import document
from stargate.clock import Clock
from stargate.errors import InvalidArgument, PeerError, PeerProtocol, PeerRefused, PeerUnreachable, StargateError
from stargate.peer import wire
from stargate.peer.frame import HASHES_MAX, PUT_BYTES_MAX
from stargate.peer.identity import PeerSet
from stargate.peer.ingest import Grant, Ingest
from stargate.peer.link import BEAT_SECONDS, Link
from stargate.units import KiB, MiB

log = logging.getLogger(__name__)

AHEAD_BYTES = 10 * MiB
"""Read and not yet answered, at most: a little more than a sender has under way."""

AHEAD_SECONDS = 1.0
"""How long answers may wait for what is still to be read, so that a slow link is not taken for a silent one."""

_REQUEST_COST_BYTES = 64 * KiB


class _Asked(NamedTuple):
    """A request that was read, and its answer to come."""

    request: int
    size_bytes: int
    answer: Future[wire.Message]


class Conversation:
    """State of one connection; everything it keeps is bounded by `ahead_bytes()`, one frame and one BEGIN.

    Requests are read ahead of their answers, which come in order from a thread of its own. What is there to be read is
    read first: an answer to a connection that is gone makes the other machine's kernel drop what it still had for us.
    `ahead_bytes()` 0: nothing is read before the last request is answered, so that a simulation repeats exactly.
    """

    def __init__(
        self,
        link: Link,
        ingest: Ingest,
        peers: PeerSet,
        *,
        own_site_id: str,
        site_id: str,
        der: bytes,
        clock: Clock,
        ahead_bytes: Callable[[], int],
    ) -> None:
        self._link = link
        self._ingest = ingest
        self._peers = peers
        self._own_site_id = own_site_id
        self._site_id = site_id
        self._der = der
        self._clock = clock
        self._ahead_bytes = ahead_bytes
        self._asked: deque[_Asked] = deque()
        self._refused = False
        self._said_at = clock.monotonic()
        self._session: str | None = None
        self._begin: wire.Begin | None = None
        self._grant: Grant | None = None
        self._manifest: dict[str, Any] = {}
        self._mute = False  # the link takes nothing any more; what it brought is still being read

    def run(self) -> None:
        """Until the peer closes, is refused, or the link dies; never raises for what a peer can cause."""
        try:
            with self._ingest.receiving(), ThreadPoolExecutor(1, thread_name_prefix="peer-ingest") as worker:
                while self._one(worker):
                    pass
                for asked in self._asked:
                    asked.answer.result()
        except PeerUnreachable as exc:
            log.info("peer %s: %s", self._site_id, exc)
        except StargateError as exc:
            log.warning("peer %s refused: %s %s", self._site_id, exc, exc.detail)
            self._say(exc)
        except Exception:
            log.exception("peer %s: the engine failed", self._site_id)
            self._say(StargateError("the other site failed internally; see its log"))

    def _say(self, exc: StargateError) -> None:
        try:
            self._link.send(wire.Error(exc.code, exc.message), 0)
        except PeerError:
            return
        self._link.finish()

    def _one(self, worker: ThreadPoolExecutor) -> bool:
        """Answer or read one message; False when no more comes."""
        if self._asked and not self._reads_on():
            self._settle()
            return True
        found = self._link.receive()
        if found is None:
            return False
        header, message = found
        if self._mute and not isinstance(message, wire.Put):
            return False
        answer = worker.submit(self._answer_in_turn, message)
        self._asked.append(_Asked(header.request, header.length + _REQUEST_COST_BYTES, answer))
        return True

    def _reads_on(self) -> bool:
        """Only a granted session is worth the memory."""
        return (
            self._grant is not None
            and sum(asked.size_bytes for asked in self._asked) < self._ahead_bytes()
            and self._clock.monotonic() - self._said_at < AHEAD_SECONDS
            and self._link.has_more()
        )

    def _settle(self) -> None:
        """Answer the oldest request, unless there is something to be read by the time it is done. Raises what it was
        refused with.
        """
        asked = self._asked[0]
        answer = self._patiently(asked.answer)
        if not self._reads_on():
            self._asked.popleft()
            self._reply(answer, asked.request)

    def _patiently(self, answer: Future[wire.Message]) -> wire.Message:
        """Say STATUS while it takes long, so that a slow disk is not mistaken for a dead site."""
        started = self._clock.monotonic()
        while True:
            try:
                return answer.result(timeout=BEAT_SECONDS)
            except FutureTimeout:
                if answer.done():
                    raise
                self._reply(wire.Status(int(self._clock.monotonic() - started)), 0)

    def _reply(self, reply: wire.Message, request: int) -> None:
        """After a cut the items that had arrived are still read and kept, although nobody hears of it any more: the
        next connection need not send them again.
        """
        if self._mute:
            return
        self._said_at = self._clock.monotonic()
        try:
            self._link.send(reply, request)
        except PeerUnreachable as exc:
            if isinstance(exc.__cause__, TimeoutError) or not isinstance(reply, wire.PutAck | wire.Status):
                raise
            self._mute = True

    def _answer_in_turn(self, message: wire.Message) -> wire.Message:
        """In the worker. Nothing is done any more after a request that was refused."""
        if self._refused:
            raise PeerRefused("an earlier request of this connection was refused")
        try:
            if self._peers.site_of(self._der) != self._site_id:
                raise PeerRefused("the sites are no longer paired")
            return self._answer(message)
        except BaseException:
            self._refused = True
            raise

    def _answer(self, message: wire.Message) -> wire.Message:
        if isinstance(message, wire.Hello):
            return self._hello(message)
        if self._session is None:
            raise PeerProtocol("the other site did not say HELLO first")
        if isinstance(message, wire.Ping):
            return wire.Pong()
        if isinstance(message, wire.Begin):
            return self._start(message)
        if isinstance(message, wire.Fetch):
            return self._ingest.fetch(self._site_id, message)
        if self._begin is None or self._grant is None:
            raise PeerProtocol("the other site did not BEGIN a session first")
        if isinstance(message, wire.Have):
            return wire.HaveReply(self._ingest.has(self._grant, message.scope, message.hashes))
        if isinstance(message, wire.Put):
            return wire.PutAck(*self._ingest.put(self._grant, message.items))
        if isinstance(message, wire.Publish):
            return self._publish(message, self._begin, self._grant)
        raise PeerProtocol("the other site sent a message that is not a request", type(message).__name__)

    def _hello(self, message: wire.Hello) -> wire.Message:
        if self._session is not None:
            raise PeerProtocol("the other site said HELLO twice")
        if message.site_id != self._site_id:
            raise PeerRefused(
                "the other site calls itself something else than its certificate says; pair the sites again"
            )
        if not message.version_min <= wire.PROTOCOL_VERSION <= message.version_max:
            raise PeerRefused("the sites have no protocol version in common; upgrade the older site")
        self._session = message.session
        return wire.Welcome(wire.PROTOCOL_VERSION, self._own_site_id, PUT_BYTES_MAX, HASHES_MAX)

    def _start(self, message: wire.Begin) -> wire.Message:
        if self._begin is not None or message.session != self._session:
            raise PeerProtocol("a connection carries one session only")
        self._manifest = _manifest(message.manifest)
        self._grant = self._ingest.grant(message.session, self._site_id, message.snapshot)
        self._begin = message
        return wire.Begun(self._grant.published, self._grant.fingerprinting)

    def _publish(self, message: wire.Publish, begin: wire.Begin, grant: Grant) -> wire.Message:
        if message.snapshot != begin.snapshot:
            raise PeerProtocol("the other site publishes another snapshot than it began")
        self._ingest.publish(grant, begin.members, self._manifest)
        return wire.Published(message.snapshot)


def _manifest(raw: bytes) -> dict[str, Any]:
    """A JSON object of bounded size and depth; its meaning is checked by whoever registers the snapshot."""
    try:
        found = json.loads(raw)
        document(found)
    except (ValueError, RecursionError, InvalidArgument) as exc:
        raise PeerProtocol("the other site sent a manifest that cannot be kept here", str(exc)) from exc
    if not isinstance(found, dict):
        raise PeerProtocol("the other site sent a manifest that is not an object")
    return found
