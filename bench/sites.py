# SPDX-License-Identifier: Apache-2.0
"""Two paired sites on this machine, and one snapshot on its way from the first to the second."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.servers import BenchError, StargateServer
from stargate.peer.identity import create_identity

REPLICATION_SECONDS = 600.0
POLL_SECONDS = 0.01


class Pair:
    """Default settings, TLS between the sites."""

    def __init__(self, folder: Path) -> None:
        self.sites: list[StargateServer] = []
        certificates = []
        for name in ("source", "target"):
            (folder / name).mkdir(parents=True)
            certificates.append(create_identity(folder / name / "identity", f"bench {name}").certificate_pem)
        for number, name in enumerate(("source", "target"), 1):
            self.sites.append(StargateServer(folder / name, address=f"127.0.0.{number}", site_id=str(uuid.uuid4())))
        self.source, self.target = self.sites
        self.source.engine.peer_set(self.target.site_id, "target", certificates[1])
        self.target.engine.peer_set(self.source.site_id, "source", certificates[0])

    def replicate(self, snapshot: str, base: str | None = None, disks: Sequence[str] = ()) -> dict[str, Any]:
        """From the order until the target lists the snapshot, which it does when all of it is verified and durable."""
        session = str(uuid.uuid4())
        self.target.engine.grant(session, self.source.site_id, snapshot, 1 << 40, REPLICATION_SECONDS)
        self.source.engine.sync_start(
            session,
            snapshot,
            address=self.target.address,
            port=self.target.peer_port,
            site_id=self.target.site_id,
            session=session,
            base=base,
            disks=disks,
        )
        deadline = time.monotonic() + REPLICATION_SECONDS
        while (status := self.source.engine.sync_status(session))["state"] == "running":
            if time.monotonic() > deadline:
                raise BenchError("the replication does not end")
            time.sleep(POLL_SECONDS)
        if status["state"] != "done":
            raise BenchError(f"the replication failed: {status['error']}")
        while not any(found["snapshot"] == snapshot for found in self.target.engine.snapshots()):
            time.sleep(POLL_SECONDS)
        return status

    def pids(self) -> list[int]:
        return [pid for site in self.sites for pid in site.pids()]

    def stop(self) -> None:
        for site in self.sites:
            site.stop()
