# SPDX-License-Identifier: Apache-2.0
"""What the pictures show: two sites in the middle of a working day, made with the demo content and the API."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

from prism.runtime.children import ROOT
from tests.support.sites import Site, wait_for


def fill(north: Site, south: Site) -> None:
    """Domains of three tiers, restore points here and there, one domain that has moved, and something to mend."""
    if north.api.rows("protection-domains/"):
        return
    environment = {**os.environ, "PRISM_DATA": str(north.layout.data)}
    subprocess.run([sys.executable, str(ROOT / "manage.py"), "demo_content"], env=environment, check=True)
    found = _entities(north)
    peer = north.peer(south)
    north.api.post(f"remote-sites/{peer}/", {"network_map": {"lan": "lan"}}, method="PATCH")

    _protect(north, "gold-db", [found["db01"], found["db01-data"]], group="db")
    _schedule(north, "gold-db", type="HOURLY", every_nth=1, local_keep=24, remotes=[{"site": peer, "keep": 48}])
    _protect(north, "silver-web", [found["app01"]], app_consistent=True)
    _schedule(north, "silver-web", type="DAILY", every_nth=1, local_keep=7)
    _protect(north, "moved-web", [found["web01"]])
    _protect(north, "images", [found["/images/debian-demo.iso"]])

    for retention in (6 * 3600, None):
        north.take_snapshot("gold-db", to=south, retention_seconds=retention)
    north.take_snapshot("silver-web", app_consistent=True, retention_seconds=86_400)
    later = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
    north.api.post(north.path("gold-db", "take-snapshot"), {"sites": [peer], "run_at": later}, expect=202)
    north.api.done(north.migrate("moved-web", south))
    for name in ("gold-db", "silver-web"):
        wait_for(lambda name=name: len(north.snapshots(name)) >= 2, f"snapshots of {name}")  # type: ignore[misc]


def _entities(site: Site) -> dict[str, str]:
    rows = [*site.api.rows("vms/"), *site.api.rows("volume-groups/"), *site.api.rows("files/")]
    return {row.get("name") or row["path"]: row["uuid"] for row in rows}


def _protect(site: Site, name: str, entities: list[str], *, group: str = "", app_consistent: bool = False) -> None:
    site.api.post("protection-domains/", {"name": name}, expect=201)
    mode = {"group_mode": "new", "group_name": group} if group else {}
    site.api.post(site.path(name, "protect"), {"entities": entities, "app_consistent": app_consistent, **mode})


def _schedule(site: Site, name: str, **spec: object) -> None:
    site.api.post(site.path(name, "schedules"), spec, expect=201)
