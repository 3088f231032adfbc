# SPDX-License-Identifier: Apache-2.0
"""What other sites may send: grants and received snapshots, as the catalog keeps them
(`stargate.peer.ingest.GrantBook`)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from stargate.catalog.state import State
from stargate.clock import Clock
from stargate.errors import PeerRefused, Unavailable
from stargate.peer.ingest import Grant
from stargate.peer.wire import Member
from stargate.store.hub import CatalogHub
from stargate.store.space import Space


def shared_roots(state: State, site_id: str) -> set[bytes]:
    """Trees that this site and `site_id` both have, by the catalog."""
    found: set[bytes] = set()
    for snapshot in state.snapshots.values():
        if snapshot.origin == site_id or site_id in snapshot.sent:
            roots = (state.epochs[member.epoch].root for member in snapshot.members)
            found.update(bytes.fromhex(root) for root in roots if root is not None)
    return found


STAGED_SECONDS = 6 * 3600.0
"""How long what an interrupted replication delivered is kept without another attempt."""


class CatalogGrants:
    """Grants live in the catalog, so that a resumed replication finds its own after a restart."""

    def __init__(self, hub: CatalogHub, clock: Clock, sweep_epoch: Callable[[], int] = lambda: 0) -> None:
        """`sweep_epoch` tells the extent store's present one; what is stamped with it or later may be a grant's."""
        self._hub = hub
        self._clock = clock
        self._sweep_epoch = sweep_epoch
        self._started = clock.monotonic()
        self._met: dict[str, float] = {}  # session -> when its peer was last here
        self.space: Space | None = None
        """Says whether there is room for more; None: always."""
        self.deleting: Callable[[str], bool] | None = None
        """Says whether a snapshot that the catalog shows is being deleted; None: no."""

    def allow(self, session: str, site_id: str, snapshot: str, quota_bytes: int, expires_seconds: float) -> None:
        """Let `site_id` send `snapshot`. Repeating it prolongs the grant. Raises NoSpace before the last bytes."""
        if self.space is not None:
            self.space.incoming()
        self._hub.commit(
            {
                "op": "grant",
                "session": session,
                "peer": site_id,
                "snapshot": snapshot,
                "quota_bytes": quota_bytes,
                "expires_at": self._clock.now() + expires_seconds,
                "since": self._sweep_epoch(),
            }
        )

    def protected_from(self) -> int | None:
        """The sweep epoch of the oldest grant that is being used; None = there is none. What its peer delivered in an
        earlier connection was stamped then or later, and no root in the catalog names it yet.
        """
        now, fresh = self._clock.now(), self._clock.monotonic() - STAGED_SECONDS
        with self._hub.lock:
            grants = list(self._hub.state.grants.values())
        used = [g for g in grants if g.expires_at > now and self._met.get(g.session, self._started) > fresh]
        return min((g.since for g in used), default=None)

    def end_expired(self) -> int:
        """Take grants that ran out from the catalog; how many."""
        with self._hub.lock:
            over = [g.session for g in self._hub.state.grants.values() if g.expires_at <= self._clock.now()]
        for session in over:
            self.end(session)
        return len(over)

    def room(self) -> None:
        """Raises NoSpace when what a peer sends would take the last bytes."""
        if self.space is not None:
            self.space.bulk()

    def used(self, session: str, used_bytes: int) -> None:
        """Remember how much of its quota a session has used; a restart does not renew it."""
        with self._hub.lock:
            if session in self._hub.state.grants:
                self._hub.commit({"op": "grant_used", "session": session, "used_bytes": used_bytes})

    def grant(self, session: str, site_id: str, snapshot: str) -> Grant:
        found = self._granted(session, site_id, snapshot)
        if found.published:
            self._refuse_deleted(snapshot)
        return found

    def _refuse_deleted(self, snapshot: str) -> None:
        """Raises Unavailable rather than vouch for a snapshot that is about to vanish."""
        if self.deleting is not None and self.deleting(snapshot):
            raise Unavailable("this snapshot is just being deleted at the other site; send it again in a moment")

    def _granted(self, session: str, site_id: str, snapshot: str) -> Grant:
        with self._hub.lock:
            if site_id not in self._hub.state.peers:
                raise PeerRefused("this site is not paired with yours; pair the sites again")
            found = self._hub.state.grants.get(session)
            present = self._hub.state.snapshots.get(snapshot)
            if found is not None and found.expires_at > self._clock.now():
                self._met[session] = self._clock.monotonic()
                return Grant(
                    session,
                    found.peer,
                    found.snapshot,
                    found.quota_bytes,
                    published=present is not None,
                    used_bytes=found.used_bytes,
                )
            if present is not None and present.origin == site_id:
                return Grant(session, site_id, snapshot, 0, published=True)
        raise PeerRefused("no such replication was agreed on, or it took too long; start the replication again")

    def publish(self, grant: Grant, members: Sequence[Member], manifest: dict[str, Any]) -> None:
        if grant.snapshot in self._hub.state.snapshots:
            self._refuse_deleted(grant.snapshot)
        with self._hub.lock:
            if grant.snapshot in self._hub.state.snapshots:
                self.end(grant.session)
                return
            if grant.session not in self._hub.state.grants:
                raise PeerRefused("the replication was called off here")
            self._hub.commit(
                {
                    "op": "received",
                    "snapshot": grant.snapshot,
                    "members": [
                        {
                            "disk": m.disk,
                            "epoch": str(uuid.uuid4()),
                            "root": m.root.hex(),
                            "size_bytes": m.size_bytes,
                            "chunk_bytes": m.chunk_bytes,
                        }
                        for m in members
                    ],
                    "manifest": manifest,
                    "created_at": self._clock.now(),
                    "owner": "",
                    "origin": grant.site_id,
                }
            )
            self.end(grant.session)

    def shares(self, site_id: str, root: bytes) -> bool:
        """Snapshots that the site sent here, and those that it got from here, are shared with it."""
        with self._hub.lock:
            return root in shared_roots(self._hub.state, site_id)

    def end(self, session: str) -> None:
        """It may not begin again, and not publish. What it delivered is left to the sweep. Ending none is fine."""
        with self._hub.lock:
            self._met.pop(session, None)
            if session in self._hub.state.grants:
                self._hub.commit({"op": "grant_end", "session": session})
