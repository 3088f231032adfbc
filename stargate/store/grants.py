# SPDX-License-Identifier: Apache-2.0
"""What other sites may send: grants and received snapshots, as the catalog keeps them
(`stargate.peer.ingest.GrantBook`)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from stargate.clock import Clock
from stargate.errors import PeerRefused
from stargate.peer.ingest import Grant
from stargate.peer.wire import Member
from stargate.store.hub import CatalogHub


class CatalogGrants:
    """Grants live in the catalog, so that a resumed replication finds its own after a restart."""

    def __init__(self, hub: CatalogHub, clock: Clock) -> None:
        self._hub = hub
        self._clock = clock

    def allow(self, session: str, site_id: str, snapshot: str, quota_bytes: int, expires_seconds: float) -> None:
        """Let `site_id` send `snapshot`. Repeating it prolongs the grant."""
        self._hub.commit(
            {
                "op": "grant",
                "session": session,
                "peer": site_id,
                "snapshot": snapshot,
                "quota_bytes": quota_bytes,
                "expires_at": self._clock.now() + expires_seconds,
            }
        )

    def open_grants(self) -> int:
        """How many incoming snapshots are under way; their staged nodes must not be swept."""
        return sum(g.expires_at > self._clock.now() for g in list(self._hub.state.grants.values()))

    def grant(self, session: str, site_id: str, snapshot: str) -> Grant:
        with self._hub.lock:
            if site_id not in self._hub.state.peers:
                raise PeerRefused("this site is not paired with yours; pair the sites again")
            found = self._hub.state.grants.get(session)
            present = self._hub.state.snapshots.get(snapshot)
            if found is not None and found.expires_at > self._clock.now():
                return Grant(session, found.peer, found.snapshot, found.quota_bytes, published=present is not None)
            if present is not None and present.origin == site_id:
                return Grant(session, site_id, snapshot, 0, published=True)
        raise PeerRefused("no such replication was agreed on, or it took too long; start the replication again")

    def publish(self, grant: Grant, members: Sequence[Member], manifest: dict[str, Any]) -> None:
        with self._hub.lock:
            if grant.snapshot in self._hub.state.snapshots:
                self._end(grant.session)
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
            self._end(grant.session)

    def _end(self, session: str) -> None:
        if session in self._hub.state.grants:
            self._hub.commit({"op": "grant_end", "session": session})
