# SPDX-License-Identifier: Apache-2.0
"""The store is away for long: guests wait, orders work, and all of it is there when the store comes back."""

from __future__ import annotations

import random
import threading

from stargate.units import KiB, MiB
from tests.support.engine_site import EngineSite, wait_for

SIZE = 96 * MiB
PIECE = 128 * KiB


def test_writers_wait_while_the_log_is_full_and_lose_nothing(site: EngineSite) -> None:
    disk, other = site.disk(SIZE), site.disk(MiB)
    site.kill("store")
    errors: list[Exception] = []

    def copy() -> None:
        rng = random.Random(1)
        try:
            with site.open(disk) as client:
                for at in range(0, SIZE, PIECE):
                    client.write(at, rng.randbytes(PIECE))
                client.flush()
        except Exception as exc:
            errors.append(exc)

    writer = threading.Thread(target=copy)
    writer.start()
    cap = site.engine.status()["log_cap_bytes"]
    wait_for(lambda: errors or site.engine.status()["log_used_bytes"] >= 0.95 * cap, "the log to be full", 60)
    assert not errors
    points = [site.snapshot(other) for _ in range(5)]
    assert writer.is_alive(), "it waits"
    assert site.engine.fence([other], reason="test", snapshot=None)
    site.start_store()
    writer.join(120)
    assert not writer.is_alive()
    assert not errors
    rng = random.Random(1)
    assert site.content(disk) == b"".join(rng.randbytes(PIECE) for _ in range(SIZE // PIECE))
    assert {s["snapshot"] for s in site.engine.snapshots()} == set(points)
