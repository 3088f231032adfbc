# SPDX-License-Identifier: Apache-2.0
"""The store's orders (docs/design/0002, Control API): what concerns chunks, peers and space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from stargate.catalog.state import Member, Snapshot
from stargate.clock import Clock
from stargate.control.server import Orders
from stargate.errors import DamagedData, InvalidArgument, NotFound, Unavailable
from stargate.extents.store import ExtentStore
from stargate.extents.tree import diff
from stargate.peer.client import Target
from stargate.peer.outbox import Cancelled
from stargate.scrub.scrubber import Scrubber
from stargate.store.accounts import Accounts
from stargate.store.grants import CatalogGrants
from stargate.store.hub import CatalogHub
from stargate.store.outgoing import Outgoing
from stargate.store.space import Space
from stargate.store.sweep import Sweeper
from stargate.store.worker import Worker

Json = dict[str, Any]
RANGES_MAX = 100_000


class StoreOrders(Orders):
    """`do_<order>` methods; each runs in its connection's thread."""

    def __init__(
        self,
        hub: CatalogHub,
        extents: ExtentStore,
        worker: Worker,
        grants: CatalogGrants,
        sweeper: Sweeper,
        accounts: Accounts,
        outgoing: Outgoing,
        clock: Clock,
        scrubber: Scrubber,
        space: Space | None = None,
    ) -> None:
        self._hub = hub
        self._extents = extents
        self._worker = worker
        self._grants = grants
        self._sweeper = sweeper
        self._accounts = accounts
        self._outgoing = outgoing
        self._clock = clock
        self._scrubber = scrubber
        self._space = space or Space(extents.disk, clock, reserve_bytes=0)

    def do_status(self) -> Json:
        with self._hub.lock:
            state = self._hub.state
            return {
                "n": state.n,
                "covered": state.covered.position,
                "front_connected": self._hub.front is not None,
                "last_error": self._worker.last_error,
                "space": self._space.level().name.lower(),
                "swept_at": self._sweeper.swept_at,
                "sweep_error": self._sweeper.last_error,
                "unfolded": sum(1 for _ in state.foldable()),
            }

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def do_wait_rooted(self, snapshot: str, timeout_seconds: float) -> Json:
        return self._show(self.rooted(snapshot, timeout_seconds))

    def rooted(self, snapshot: str, timeout_seconds: float, cancelled: Callable[[], bool] = lambda: False) -> Snapshot:
        """Wait until the drain has passed the snapshot's marker and its epochs are folded. Raises Unavailable,
        NotFound, DamagedData, and Cancelled as soon as `cancelled`, which is asked whenever the catalog changed."""
        deadline = self._clock.monotonic() + min(timeout_seconds, 3600.0)
        with self._worker.urgent(), self._hub.changed:
            while True:
                found = self._hub.state.snapshots.get(snapshot)
                if found is not None and self._hub.state.snapshot_state(found) == "rooted":
                    return found
                if cancelled():
                    raise Cancelled
                self._refuse_poisoned(found)
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    break
                self._hub.changed.wait(min(left, 1.0))
        if found is None:
            raise NotFound(f"the store has not met snapshot {snapshot} in the log; was it deleted?")
        raise Unavailable("the snapshot is not folded yet; ask again")

    def _refuse_poisoned(self, snapshot: Snapshot | None) -> None:
        """Raises DamagedData: waiting would not help."""
        poisoned = self._worker.poisoned()
        for member in snapshot.members if snapshot is not None else ():
            if member.epoch in poisoned:
                raise DamagedData(
                    f"disk {member.disk} of this snapshot has damaged blocks that are whole nowhere; it can be read "
                    "here but for these, and not be replicated; take a new snapshot after they were written anew",
                    poisoned[member.epoch],
                )

    def _show(self, snapshot: Snapshot) -> Json:
        return {
            "snapshot": snapshot.snapshot,
            "state": "rooted",
            "members": [
                {"disk": m.disk, "size_bytes": m.size_bytes, "root": self._hub.state.epochs[m.epoch].root}
                for m in snapshot.members
            ],
        }

    def _root(self, snapshot: str, disk: str) -> tuple[bytes, Member]:
        found = self.rooted(snapshot, 60.0)
        for member in found.members:
            if member.disk == disk:
                return bytes.fromhex(self._hub.state.epochs[member.epoch].root or ""), member
        raise NotFound(f"snapshot {snapshot} holds no disk {disk}")

    def do_changed_ranges(self, snapshot: str, disk: str, since: str | None, start: int, limit: int) -> Json:
        """Ranges of whole chunks; `next` is where to go on, None at the end."""
        if not 0 < limit <= RANGES_MAX:
            raise InvalidArgument(f"limit is 1 to {RANGES_MAX}")
        root, member = self._root(snapshot, disk)
        old = self._root(since, disk)[0] if since is not None else None
        size = member.chunk_bytes
        found: list[list[int]] = []
        chunks = (chunk for chunk, _, _ in diff(self._extents, old, root) if chunk * size >= start)
        for chunk in chunks:
            offset = chunk * size
            length = min(size, member.size_bytes - offset)
            if length <= 0:
                continue
            if found and sum(found[-1]) == offset:
                found[-1][1] += length
            elif len(found) == limit:
                return {"ranges": found, "next": offset}
            else:
                found.append([offset, length])
        return {"ranges": found, "next": None}

    # -- peers --------------------------------------------------------------------------------------------------------

    def do_peer_set(self, site_id: str, name: str, certificate_pem: str, address: str = "", port: int = 0) -> Json:
        self._outgoing.peers.check(certificate_pem)
        op = {"op": "peer", "site_id": site_id, "name": name, "certificate": certificate_pem}
        known = self._hub.state.peers.get(site_id)
        if known is not None and not address:
            address, port = known.address, known.port
        self._hub.commit({**op, "address": address, "port": port})
        self._outgoing.peers.reload(self._hub.state.peers)
        return {"site_id": site_id}

    def do_peer_remove(self, site_id: str) -> Json:
        self._hub.commit({"op": "peer_removed", "site_id": site_id})
        self._outgoing.peers.reload(self._hub.state.peers)
        return {"site_id": site_id}

    def do_peers(self) -> list[Json]:
        return [{"site_id": p.site_id, "name": p.name} for p in list(self._hub.state.peers.values())]

    def do_grant(self, session: str, site_id: str, snapshot: str, quota_bytes: int, expires_seconds: float) -> Json:
        if site_id not in self._hub.state.peers:
            raise NotFound(f"site {site_id} is not paired with this one")
        self._grants.allow(session, site_id, snapshot, quota_bytes, expires_seconds)
        return {"session": session, "present": snapshot in self._hub.state.snapshots}

    def do_grant_end(self, session: str) -> Json:
        self._grants.end(session)
        return {"session": session}

    def do_sync_start(
        self,
        job: str,
        snapshot: str,
        address: str,
        port: int,
        site_id: str,
        session: str,
        fingerprinting: bool,
        base: str | None,
        compress: bool,
        disks: Sequence[str] = (),
    ) -> Json:
        self._outgoing.start(
            job,
            snapshot,
            target=Target(address, port, site_id),
            session=session,
            fingerprinting=fingerprinting,
            base=base,
            compress=compress,
            disks=disks,
            rooted=self.rooted,
        )
        return {"job": job}

    def do_sync_status(self, job: str) -> Json:
        return self._outgoing.status(job)

    def do_sync_cancel(self, job: str, session: str | None = None) -> Json:
        self._outgoing.cancel(job, session)
        return {"job": job}

    # -- space --------------------------------------------------------------------------------------------------------

    def do_usage(self) -> Json:
        stats = self._extents.stats()
        state = self._hub.state
        with self._hub.lock:
            logical = sum(d.size_bytes for d in state.vdisks.values())
        return {
            "logical_bytes": logical,
            "stored_bytes": stats.stored_bytes - stats.freed_bytes,
            "extents": stats.extents,
            "hot_bytes": self._worker.hot_bytes,
            "log_bytes": self._worker.log_bytes,
            **self._space.facts(),
            "scanned_at": self._accounts.scanned_at,
            "scrub": self._scrubber.health(),
        }

    def do_reclaimable(self, snapshots: Sequence[str]) -> Json:
        """Exclusive bytes of each snapshot as of the last scan; null where no scan has seen it yet."""
        return dict(self._accounts.reclaimable(islice(snapshots, RANGES_MAX)))

    def do_exclusive(self, groups: dict[str, list[str]]) -> Json:
        """Bytes that the snapshots of each group hold together and nobody else, as of the last scan, or null."""
        return {name: self._accounts.exclusive(group) for name, group in islice(groups.items(), RANGES_MAX)}

    def do_what_if(self, snapshots: Sequence[str]) -> Json:
        """What deleting all of these gives back: {freed_bytes or null, exact, scanned_at}."""
        return asdict(self._accounts.what_if(list(islice(snapshots, RANGES_MAX))))

    def do_scan(self) -> Json:
        scan = self._accounts.scan()
        return {"scanned_at": scan.at, "exclusive": {name: scan.freed_by([name]) for name in scan.numbers}}

    def do_scrub(self) -> Json:
        """Check everything now and have damage healed; what `health` says then."""
        return self._scrubber.run_pass()

    def do_scrub_start(self) -> Json:
        """Check everything now, in the background; what `health` says meanwhile."""
        return self._scrubber.ask()

    def do_health(self) -> Json:
        """{damaged, healed, findings (sentences), unfoldable (epochs), oldest_unchecked_seconds, last_pass_at, parts,
        asked_left}"""
        return self._scrubber.health()

    def do_sweep(self) -> Json:
        swept = self._sweeper.sweep()
        return {"freed_bytes": swept.freed_bytes, "extents": swept.extents}
