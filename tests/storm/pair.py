# SPDX-License-Identifier: Apache-2.0
"""Two paired sites in real processes, and the sending of a snapshot between them."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from stargate.errors import Unavailable
from stargate.peer.identity import create_identity
from tests.support.engine_site import EngineSite

SYNC_SECONDS = 120.0


class Pair:
    """`here` sends, `there` receives. `port`: where `here` connects to, when not `there` itself (a fault proxy)."""

    def __init__(self, folder: Path, addresses: tuple[str, str], **settings: Any) -> None:
        """`settings` are those of `EngineSite`, for both. Starts the engines and pairs them."""
        folders = [folder / "a", folder / "b"]
        self.here, self.there = (
            EngineSite(path, address=address, peer=True, **settings)
            for path, address in zip(folders, addresses, strict=True)
        )
        self.port: tuple[str, int] = (self.there.address, self.there.peer_port)
        self.sites = (self.here, self.there)
        certificates = [create_identity(path / "identity", path.name).certificate_pem for path in folders]
        for site in self.sites:
            site.start()
        self.here.engine.peer_set(self.there.site_id, "b", certificates[1])
        self.there.engine.peer_set(self.here.site_id, "a", certificates[0])

    def begin(self, snapshot: str, base: str | None = None, session: str = "") -> str:
        """Grant and start (or resume); the id of the job."""
        session = session or str(uuid.uuid4())
        self.there.engine.grant(session, self.here.site_id, snapshot, 1 << 40, 600)
        self.here.engine.sync_start(
            session,
            snapshot,
            address=self.port[0],
            port=self.port[1],
            site_id=self.there.site_id,
            session=session,
            base=base,
        )
        return session

    def status(self, job: str) -> dict[str, Any]:
        return self.here.engine.sync_status(job)

    def wait(self, job: str, seconds: float = SYNC_SECONDS) -> dict[str, Any]:
        """Until the job no longer runs. Raises AssertionError for one that is stuck, StargateError when a half of
        either site is dead (without its front a site does not fold, and the job waits)."""
        deadline = time.monotonic() + seconds
        while (status := self.status(job))["state"] == "running":
            if any(site.front is None or site.store is None for site in self.sites):
                raise Unavailable("a half of a site is dead")
            assert time.monotonic() < deadline, f"a replication is stuck: {status}"
            time.sleep(0.01)
        return status

    def send(self, snapshot: str, base: str | None = None) -> dict[str, Any]:
        """Raises Unavailable when it did not get there."""
        status = self.wait(self.begin(snapshot, base))
        if status["state"] != "done":
            raise Unavailable(f"the replication failed: {status['error']}")
        return status

    def stop(self) -> None:
        for site in self.sites:
            site.stop()
