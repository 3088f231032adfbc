# SPDX-License-Identifier: Apache-2.0
"""Space is accounted for and returned without anybody asking."""

from __future__ import annotations

import random
from pathlib import Path

from stargate.units import MiB
from tests.support.engine_site import EngineSite, wait_for


def test_a_deleted_snapshots_space_comes_back_by_itself(folder: Path) -> None:
    site = EngineSite(folder)
    site._store_args += ["--curator-seconds", "0.5"]
    try:
        site.start()
        disk = site.disk(4 * MiB)
        with site.open(disk) as client:
            client.write(0, random.Random(1).randbytes(4 * MiB))
        snapshot = site.snapshot(disk)
        with site.open(disk) as client:
            client.write(0, random.Random(2).randbytes(4 * MiB))
        site.engine.wait_rooted(site.snapshot(disk))
        wait_for(
            lambda: (site.engine.reclaimable([snapshot])[snapshot] or 0) >= 4 * MiB, "the scan to see the snapshot"
        )
        before = site.engine.usage()["stored_bytes"]
        site.engine.snapshot_delete(snapshot)
        wait_for(lambda: site.engine.usage()["stored_bytes"] <= before - 4 * MiB, "the space")
        assert site.content(disk) == random.Random(2).randbytes(4 * MiB)
    finally:
        site.stop()
