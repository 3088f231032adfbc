# SPDX-License-Identifier: Apache-2.0
"""`Engine`: the orders Stargate takes, as methods. Used by Django, by tests and by `python -m stargate ctl`.

Ids are uuid strings chosen by the caller; the same order with the same id twice gives the first result. Errors arrive
as the
classes of `stargate.errors`; an engine that does not answer raises `Unavailable`. `term` fences orders of an old
Cerebro leader.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from stargate.control.protocol import LINE_BYTES_MAX, decode, encode, error_from_wire
from stargate.errors import Unavailable

Json = dict[str, Any]


class ControlConnection:
    """One unix-socket connection; opened for each call, for calls are rare and processes come and go."""

    def __init__(self, path: str | Path, timeout_seconds: float = 30.0) -> None:
        self._path = str(path)
        self._timeout = timeout_seconds

    def call(self, op: str, timeout_seconds: float | None = None, /, **args: Any) -> Any:
        """Send one order and wait for its answer. Raises what the engine raised, or Unavailable."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(timeout_seconds or self._timeout)
                sock.connect(self._path)
                sock.sendall(encode({"id": 1, "op": op, "args": args}))
                with sock.makefile("rb") as stream:
                    line = stream.readline(LINE_BYTES_MAX + 1)
        except OSError as exc:
            raise Unavailable(f"the block engine does not answer ({op})", f"{self._path}: {exc}") from exc
        if not line.endswith(b"\n"):
            raise Unavailable(
                f"the block engine stopped while it worked on {op}; the order may be repeated", self._path
            )
        answer = decode(line)
        if "error" in answer:
            raise error_from_wire(answer["error"])
        return answer["result"]


class Engine:
    """Client of one site's Stargate; `run_dir` holds `stargate.sock` (front) and `store.sock` (store)."""

    def __init__(self, run_dir: str | Path, timeout_seconds: float = 30.0) -> None:
        self.run_dir = Path(run_dir)
        self.front = ControlConnection(self.run_dir / "stargate.sock", timeout_seconds)
        self.store = ControlConnection(self.run_dir / "store.sock", timeout_seconds)

    @property
    def nbd_socket(self) -> str:
        """Unix socket where the front serves NBD."""
        return os.fspath(self.run_dir / "nbd.sock")

    def status(self) -> Json:
        """log_id, incarnation, term, log_used_bytes, log_cap_bytes, durable, frozen, damaged, store_connected, ..."""
        return cast(Json, self.front.call("status"))

    def claim_term(self, term: int) -> Json:
        return cast(Json, self.front.call("claim_term", term=term))

    # -- vDisks -------------------------------------------------------------------------------------------------------

    def vdisk_create(
        self,
        vdisk: str,
        size_bytes: int,
        *,
        export_name: str,
        role: str = "active",
        source: Mapping[str, str] | None = None,
        write_through: bool = False,
        term: int | None = None,
    ) -> Json:
        """New vDisk: zeros, or a clone of `source` {"snapshot", "disk"} (then size_bytes may be 0 = as in the
        snapshot). `write_through`: each write is answered when it is durable."""
        return cast(
            Json,
            self.front.call(
                "vdisk_create",
                vdisk=vdisk,
                size_bytes=size_bytes,
                export_name=export_name,
                role=role,
                source=dict(source) if source else None,
                term=term,
                write_through=write_through,
            ),
        )

    def vdisk_resize(self, vdisk: str, size_bytes: int, *, term: int | None = None) -> Json:
        return cast(Json, self.front.call("vdisk_resize", vdisk=vdisk, size_bytes=size_bytes, term=term))

    def vdisk_delete(self, vdisk: str, *, term: int | None = None) -> Json:
        """Connected clients are disconnected. Deleting what is not there succeeds."""
        return cast(Json, self.front.call("vdisk_delete", vdisk=vdisk, term=term))

    def vdisk(self, vdisk: str) -> Json:
        return cast(Json, self.front.call("vdisk", vdisk=vdisk))

    def vdisks(self, only: Sequence[str] | None = None) -> list[Json]:
        """All, or those of `only` that there are."""
        return cast(list[Json], self.front.call("vdisks", only=None if only is None else list(only)))

    def connections(self, vdisk: str) -> list[Json]:
        return cast(list[Json], self.front.call("connections", vdisk=vdisk))

    def set_role(self, vdisks: Sequence[str], role: str, *, reason: str, term: int | None = None) -> Json:
        """`active`, `readonly` or `down`, durable. Leaving `active` fences: clients are disconnected, generations
        raised."""
        return cast(Json, self.front.call("set_role", vdisks=list(vdisks), role=role, reason=reason, term=term))

    def reopen(self, vdisks: Sequence[str], *, term: int | None = None) -> Json:
        """Serve disks again that the machine's death took down: {"reopened"}. Their guests must not be running."""
        return cast(Json, self.front.call("reopen", vdisks=list(vdisks), term=term))

    def set_write_through(self, vdisks: Sequence[str], write_through: bool, *, term: int | None = None) -> Json:
        """Whether every write is answered only when it is durable. Connected clients need not come back for it."""
        args = {"vdisks": list(vdisks), "write_through": write_through, "term": term}
        return cast(Json, self.front.call("set_write_through", **args))

    def set_gated(self, vdisks: Sequence[str], gated: bool) -> Json:
        """Gated vDisks (of replicated domains) start read-only after a restart until `set_gate` or 30 s passed.
        Durable."""
        return cast(Json, self.front.call("set_gated", vdisks=list(vdisks), gated=gated))

    def set_gate(self, vdisks: Sequence[str], gate: str, *, reason: str = "") -> Json:
        """`open` or `readonly`: the answer of the stale-site check for this run of the engine. Not durable."""
        return cast(Json, self.front.call("set_gate", vdisks=list(vdisks), gate=gate, reason=reason))

    # -- clients of NBD -----------------------------------------------------------------------------------------------

    def nbd_client_issue(self, name: str, days: int = 365) -> Json:
        """{client, authority_pem, certificate_pem, key_pem}: what opens every disk over TLS. The key is told once."""
        return cast(Json, self.front.call("nbd_client_issue", name=name, days=days))

    def nbd_client_list(self) -> list[Json]:
        """[{name, fingerprint, issued_at, expires_at, revoked_at, state: good | expired | revoked}], oldest first."""
        return cast(list[Json], self.front.call("nbd_client_list"))

    def nbd_client_revoke(self, name: str) -> Json:
        """From now on no connection with it; those that are open are ended."""
        return cast(Json, self.front.call("nbd_client_revoke", name=name))

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def snapshot_create(
        self, snapshot: str, disks: Sequence[str], *, manifest: Json, owner: str = "", term: int | None = None
    ) -> Json:
        """One point in time over all `disks`; durable and restorable here when it returns."""
        return cast(
            Json,
            self.front.call(
                "snapshot_create", snapshot=snapshot, disks=list(disks), manifest=manifest, owner=owner, term=term
            ),
        )

    def fence(
        self,
        vdisks: Sequence[str],
        *,
        reason: str,
        snapshot: str | None = None,
        manifest: Json | None = None,
        owner: str = "",
        term: int | None = None,
    ) -> Json:
        """Take the exports down and, in the same durable batch, mark `snapshot`: {generations, snapshot}."""
        return cast(
            Json,
            self.front.call(
                "fence",
                vdisks=list(vdisks),
                reason=reason,
                snapshot=snapshot,
                manifest=manifest or {},
                owner=owner,
                term=term,
            ),
        )

    def restore(
        self, snapshot: str, disks: Mapping[str, str], *, disconnect_writers: bool = False, term: int | None = None
    ) -> Json:
        """Put {disk in the snapshot: existing vDisk} back to the snapshot. Refuses WriterConnected unless told
        otherwise."""
        return cast(
            Json,
            self.front.call(
                "restore", snapshot=snapshot, disks=dict(disks), disconnect_writers=disconnect_writers, term=term
            ),
        )

    def snapshot(self, snapshot: str) -> Json:
        return cast(Json, self.front.call("snapshot", snapshot=snapshot))

    def snapshots(self, owner: str | None = None) -> list[Json]:
        """All, or those made with this `owner`."""
        return cast(list[Json], self.front.call("snapshots", owner=owner))

    def snapshot_delete(self, snapshot: str, *, term: int | None = None) -> Json:
        """Deleting what is not there succeeds."""
        return cast(Json, self.front.call("snapshot_delete", snapshot=snapshot, term=term))

    def changed_ranges(
        self, snapshot: str, disk: str, *, since: str | None = None, start: int = 0, limit: int = 10000
    ) -> Json:
        """{"ranges": [[offset, length], ..], "next": offset or None}: a superset of what changed, 64-KiB steps."""
        args = {"snapshot": snapshot, "disk": disk, "since": since, "start": start, "limit": limit}
        return cast(Json, self.store.call("changed_ranges", 120.0, **args))

    def wait_rooted(self, snapshot: str, timeout_seconds: float = 60.0) -> Json:
        """Wait until the snapshot is folded into trees (then it can be replicated)."""
        return cast(
            Json,
            self.store.call("wait_rooted", timeout_seconds + 5, snapshot=snapshot, timeout_seconds=timeout_seconds),
        )

    # -- peers --------------------------------------------------------------------------------------------------------

    def peer_set(self, site_id: str, name: str, certificate_pem: str, *, address: str = "", port: int = 0) -> Json:
        """Pin a site. `address`, `port`: where it listens for bytes, so that damage can be healed from there."""
        args = {"site_id": site_id, "name": name, "certificate_pem": certificate_pem, "address": address, "port": port}
        return cast(Json, self.store.call("peer_set", **args))

    def peer_remove(self, site_id: str) -> Json:
        return cast(Json, self.store.call("peer_remove", site_id=site_id))

    def grant(self, session: str, site_id: str, snapshot: str, quota_bytes: int, expires_seconds: float) -> Json:
        """Let the paired `site_id` send this one snapshot."""
        return cast(
            Json,
            self.store.call(
                "grant",
                session=session,
                site_id=site_id,
                snapshot=snapshot,
                quota_bytes=quota_bytes,
                expires_seconds=expires_seconds,
            ),
        )

    def grant_end(self, session: str) -> Json:
        """Nothing more is taken in this session. Ending what is not there succeeds."""
        return cast(Json, self.store.call("grant_end", session=session))

    def sync_start(
        self,
        job: str,
        snapshot: str,
        *,
        address: str,
        port: int,
        site_id: str,
        session: str,
        fingerprinting: bool = True,
        base: str | None = None,
        compress: bool = True,
        disks: Sequence[str] = (),
    ) -> Json:
        """Start, or after a failure resume, sending a snapshot to a paired site. `disks`: those that it holds, whose
        bytes may leave before it is drained and folded; a place that is written in between travels twice then.
        """
        return cast(
            Json,
            self.store.call(
                "sync_start",
                job=job,
                snapshot=snapshot,
                address=address,
                port=port,
                site_id=site_id,
                session=session,
                fingerprinting=fingerprinting,
                base=base,
                compress=compress,
                disks=list(disks),
            ),
        )

    def sync_status(self, job: str) -> Json:
        return cast(Json, self.store.call("sync_status", job=job))

    def sync_cancel(self, job: str, session: str | None = None) -> Json:
        """With `session` only if the job runs in that one."""
        return cast(Json, self.store.call("sync_cancel", job=job, session=session))

    # -- space --------------------------------------------------------------------------------------------------------

    def usage(self) -> Json:
        return cast(Json, self.store.call("usage"))

    def reclaimable(self, snapshots: Sequence[str]) -> Json:
        return cast(Json, self.store.call("reclaimable", snapshots=list(snapshots)))

    def exclusive(self, groups: Mapping[str, Sequence[str]]) -> dict[str, int | None]:
        """Bytes that the snapshots of each group hold together and nobody else; None: not scanned yet."""
        args = {name: list(group) for name, group in groups.items()}
        return cast("dict[str, int | None]", self.store.call("exclusive", groups=args))

    def what_if(self, snapshots: Sequence[str]) -> Json:
        """What deleting all of these gives back: {"freed_bytes" (None: unknown), "exact", "scanned_at"}."""
        return cast(Json, self.store.call("what_if", 60.0, snapshots=list(snapshots)))

    def scan(self) -> Json:
        """Account for all space now: {"scanned_at", "exclusive": {snapshot: bytes}}."""
        return cast(Json, self.store.call("scan", 600.0))

    def health(self) -> Json:
        """{damaged, healed, findings, unfoldable, oldest_unchecked_seconds, last_pass_at, parts, asked_left}: what the
        scrub knows. `asked_left`: how many of the `parts` a `scrub_start` still has to read."""
        return cast(Json, self.store.call("health"))

    def scrub(self) -> Json:
        """Check everything that is stored now; `health` after it. May take hours on a large site."""
        return cast(Json, self.store.call("scrub", 86400.0))

    def scrub_start(self) -> Json:
        """Check everything that is stored now, in the background; `health` at once. It goes on after a restart."""
        return cast(Json, self.store.call("scrub_start"))

    def sweep(self) -> Json:
        return cast(Json, self.store.call("sweep", 600.0))
