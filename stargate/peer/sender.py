# SPDX-License-Identifier: Apache-2.0
"""The walk that sends what a peer lacks: questions one batch ahead, chunks first, then their nodes, upwards to the
root.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stargate.extents.format import ZERO_HASH, Kind
from stargate.peer.client import PeerClient, Pending
from stargate.peer.codec import Packing
from stargate.peer.frame import HASHES_MAX
from stargate.peer.outbox import Counters
from stargate.peer.walk import OpenNode, Slot, Version
from stargate.peer.wire import Have, HaveReply, Scope

KNOWN_MAX = 1 << 17
"""Names remembered as being at the peer (sent or answered), so that a repeated chunk travels once: about 15 MB."""


class _Batch(NamedTuple):
    """Sibling nodes whose children were asked for in one question (None: nothing had to be asked)."""

    nodes: list[OpenNode]
    asked: list[bytes]
    question: Pending[HaveReply] | None


class Sender:
    """One run over one connection. With `fingerprinting` off nothing is asked about the peer's store: chunks and nodes
    equal to the base are skipped, and nodes that this very session delivered before a cut.
    """

    def __init__(self, client: PeerClient, packing: Packing, counters: Counters, *, fingerprinting: bool) -> None:
        self._client = client
        self._packing = packing
        self._counters = counters
        self._fingerprinting = fingerprinting
        self._known: dict[bytes, None] = {}

    def learn(self, versions: Sequence[Version]) -> None:
        """Ask for all roots and top nodes at once."""
        names = [name for version in versions for name in (version.root, version.top)]
        for at in range(0, len(names), HASHES_MAX):
            asked = self._unknown(names[at : at + HASHES_MAX])
            question = self._ask(asked, nodes=True)
            self._note(asked, question)

    def send(self, version: Version) -> None:
        """Everything of the version that the peer lacks, its root last."""
        if self._at_peer(version.root, version.base_root or ZERO_HASH):
            self._counters.done_bytes += version.format.size_bytes
            return
        level = version.format.depth - 1
        if self._at_peer(version.top, version.base_top):
            self._counters.done_bytes += version.format.size_bytes
        else:
            self._walk(version, level, [Slot(version.top, 0, version.base_top)])
        self._send_node(Kind.ROOT, version.root, version.root_payload)

    def _walk(self, version: Version, level: int, slots: Sequence[Slot]) -> None:
        step = max(1, HASHES_MAX // version.format.fanout)
        groups = [slots[at : at + step] for at in range(0, len(slots), step)]
        ahead = self._open(version, level, groups[0])
        for following in [*groups[1:], None]:
            batch = ahead
            if following is not None:
                ahead = self._open(version, level, following)
            self._settle(version, level, batch)

    def _open(self, version: Version, level: int, slots: Sequence[Slot]) -> _Batch:
        """Read the nodes and ask for their children; the answer is awaited only when the batch's turn comes."""
        opened = [version.open(slot, level) for slot in slots]
        pairs = ((c, b) for node in opened for c, b in zip(node.children, node.base_children, strict=True))
        asked = self._unknown(c for c, b in pairs if not self._at_peer(c, b))
        return _Batch(opened, asked, self._ask(asked, nodes=level > 0))

    def _settle(self, version: Version, level: int, batch: _Batch) -> None:
        """Send what the batch's nodes lack below them, then the nodes."""
        self._note(batch.asked, batch.question)
        deeper: dict[bytes, Slot] = {}
        for node in batch.nodes:
            self._children(version, level, node, deeper)
        if deeper:
            self._walk(version, level - 1, list(deeper.values()))
        kind = Kind.INNER if level else Kind.LEAF
        for node in batch.nodes:
            self._send_node(kind, node.slot.digest, node.payload)

    def _children(self, version: Version, level: int, node: OpenNode, deeper: dict[bytes, Slot]) -> None:
        span = version.span_bytes(level - 1)
        for index, (child, base) in enumerate(zip(node.children, node.base_children, strict=True)):
            start = node.slot.start_bytes + index * span
            guest_bytes = version.guest_bytes(start, level - 1)
            if self._at_peer(child, base) or child in deeper:
                self._counters.done_bytes += guest_bytes
            elif level == 0:
                self._packing.chunk(child, version.format.chunk_bytes, guest_bytes)
                self._remember(child)
            else:
                deeper[child] = Slot(child, start, base)

    def _send_node(self, kind: Kind, digest: bytes, payload: bytes) -> None:
        self._packing.node(kind, digest, payload)
        self._remember(digest)

    def _at_peer(self, digest: bytes, base: bytes) -> bool:
        return digest == ZERO_HASH or digest in self._known or (not self._fingerprinting and digest == base)

    def _unknown(self, names: Iterable[bytes]) -> list[bytes]:
        """Each once, without what needs no question."""
        return [name for name in dict.fromkeys(names) if name != ZERO_HASH and name not in self._known]

    def _ask(self, names: list[bytes], *, nodes: bool) -> Pending[HaveReply] | None:
        """None when there is nothing to ask, or nothing that may be asked."""
        if not names or not (nodes or self._fingerprinting):
            return None
        scope = Scope.STORE if self._fingerprinting else Scope.SESSION
        return self._client.request(Have(scope, names), HaveReply)

    def _note(self, asked: list[bytes], question: Pending[HaveReply] | None) -> None:
        if question is None:
            return
        for name, present in zip(asked, question.result().present, strict=True):
            if present:
                self._remember(name)

    def _remember(self, name: bytes) -> None:
        self._known[name] = None
        if len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]
