# SPDX-License-Identifier: Apache-2.0
"""Two engines: what crosses the wire, and that it is the same on the other side."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stargate.peer.identity import create_identity
from stargate.units import KiB, MiB
from tests.support.engine_site import EngineSite, wait_for
from tests.support.loopback import loopback


@pytest.fixture
def pair(folder: Path) -> Iterator[tuple[EngineSite, EngineSite]]:
    sites = [EngineSite(folder / name, address=loopback(n), peer=True) for n, name in ((1, "a"), (2, "b"))]
    certificates = [create_identity(s.folder / "identity", f"site {n}").certificate_pem for n, s in enumerate(sites)]
    try:
        for site in sites:
            site.start()
        sites[0].engine.peer_set(sites[1].site_id, "b", certificates[1])
        sites[1].engine.peer_set(sites[0].site_id, "a", certificates[0])
        yield sites[0], sites[1]
    finally:
        for site in sites:
            site.stop()


def replicate(
    source: EngineSite, target: EngineSite, snapshot: str, base: str | None = None, disks: tuple[str, ...] = ()
) -> dict[str, Any]:
    session = str(uuid.uuid4())
    target.engine.grant(session, source.site_id, snapshot, 1 << 40, 600)
    source.engine.sync_start(
        session,
        snapshot,
        address=target.address,
        port=target.peer_port,
        site_id=target.site_id,
        session=session,
        base=base,
        disks=disks,
    )
    wait_for(lambda: source.engine.sync_status(session)["state"] != "running", "the replication")
    status = source.engine.sync_status(session)
    assert status["state"] == "done", status
    wait_for(lambda: any(s["snapshot"] == snapshot for s in target.engine.snapshots()), "the snapshot to be seen")
    return status


def fill(site: EngineSite, vdisk: str, size: int, seed: int) -> None:
    with site.open(vdisk) as client:
        rng = random.Random(seed)
        for at in range(0, size, MiB):
            client.write(at, rng.randbytes(MiB))


def test_full_incremental_unchanged_and_known_data(pair: tuple[EngineSite, EngineSite]) -> None:
    a, b = pair
    disk = a.disk(64 * MiB)
    fill(a, disk, 32 * MiB, seed=1)
    first = a.snapshot(disk)
    status = replicate(a, b, first)
    assert status["chunks_sent"] == 512
    assert b.content(f"snapshot:{first}:{disk}") == a.content(disk)

    second = a.snapshot(disk)
    status = replicate(a, b, second, base=first)
    assert (status["chunks_total"], status["chunks_sent"]) == (0, 0)

    with a.open(disk) as client:
        for number in range(5):
            client.write(number * 3 * MiB + 512, b"changed")
    third = a.snapshot(disk)
    status = replicate(a, b, third, base=second)
    assert (status["chunks_total"], status["chunks_sent"]) == (5, 5)
    assert status["wire_bytes"] < 6 * 64 * KiB
    assert b.content(f"snapshot:{third}:{disk}") == a.content(disk)

    copy = a.disk(64 * MiB)
    fill(a, copy, 32 * MiB, seed=1)
    fourth = a.snapshot(copy)
    status = replicate(a, b, fourth)
    assert (status["chunks_sent"], status["chunks_deduplicated"]) == (0, 512)
    assert b.content(f"snapshot:{fourth}:{copy}") == a.content(copy)


def test_what_leaves_while_the_log_is_drained_travels_once(pair: tuple[EngineSite, EngineSite]) -> None:
    a, b = pair
    disk = a.disk(64 * MiB)
    fill(a, disk, 20 * MiB, seed=8)
    first = a.snapshot(disk)
    status = replicate(a, b, first, disks=(disk,))
    assert (status["chunks_total"], status["chunks_sent"], status["chunks_deduplicated"]) == (320, 320, 0)
    assert 20 * MiB < status["wire_bytes"] < 21 * MiB
    fill(a, disk, 5 * MiB, seed=9)
    second = a.snapshot(disk)
    status = replicate(a, b, second, base=first, disks=(disk,))
    assert (status["chunks_total"], status["chunks_sent"], status["chunks_deduplicated"]) == (80, 80, 0)
    assert b.content(f"snapshot:{second}:{disk}") == a.content(disk)


def test_a_job_that_waits_for_its_fold_is_cancelled_and_runs_again_in_another_session(
    pair: tuple[EngineSite, EngineSite],
) -> None:
    a, b = pair
    disk = a.disk(8 * MiB)
    fill(a, disk, 4 * MiB, seed=12)
    job, snapshot = str(uuid.uuid4()), str(uuid.uuid4())
    where = {"address": b.address, "port": b.peer_port, "site_id": b.site_id, "disks": [disk]}
    a.engine.sync_start(job, snapshot, session="never granted", **where)
    assert a.engine.sync_status(job)["phase"] == "folding"
    a.engine.sync_cancel(job, "of another")
    assert a.engine.sync_status(job)["state"] == "running"
    a.engine.sync_cancel(job, "never granted")
    session = str(uuid.uuid4())
    b.engine.grant(session, a.site_id, snapshot, 1 << 30, 600)
    a.engine.sync_start(job, snapshot, session=session, **where)
    a.engine.snapshot_create(snapshot, [disk], manifest={})
    wait_for(lambda: a.engine.sync_status(job)["state"] != "running", "the replication")
    assert a.engine.sync_status(job)["state"] == "done"
    assert b.content(f"snapshot:{snapshot}:{disk}") == a.content(disk)


def test_a_cancelled_job_says_so_although_its_snapshot_never_came(pair: tuple[EngineSite, EngineSite]) -> None:
    a, b = pair
    job = str(uuid.uuid4())
    where = {"address": b.address, "port": b.peer_port, "site_id": b.site_id}
    a.engine.sync_start(job, str(uuid.uuid4()), session="none", **where)
    a.engine.sync_cancel(job)
    wait_for(lambda: a.engine.sync_status(job)["state"] == "cancelled", "the end of the wait")


def test_nothing_is_taken_in_a_session_that_was_ended(pair: tuple[EngineSite, EngineSite]) -> None:
    a, b = pair
    disk = a.disk(8 * MiB)
    fill(a, disk, 4 * MiB, seed=13)
    snapshot, session = a.snapshot(disk), str(uuid.uuid4())
    b.engine.grant(session, a.site_id, snapshot, 1 << 30, 600)
    for _ in range(2):
        b.engine.grant_end(session)
    where = {"address": b.address, "port": b.peer_port, "site_id": b.site_id, "disks": [disk]}
    a.engine.sync_start(session, snapshot, session=session, **where)
    wait_for(lambda: a.engine.sync_status(session)["state"] != "running", "the refusal")
    status = a.engine.sync_status(session)
    assert (status["state"], status["error"]["code"], status["chunks_sent"]) == ("failed", "peer_refused", 0)
    assert b.engine.usage()["extents"] == 0


def test_the_target_serves_a_clone_with_the_source_gone(pair: tuple[EngineSite, EngineSite]) -> None:
    a, b = pair
    disk = a.disk(8 * MiB)
    fill(a, disk, 8 * MiB, seed=2)
    expected = a.content(disk)
    snapshot = a.snapshot(disk)
    replicate(a, b, snapshot)
    a.kill()
    b.restart()
    assert b.engine.snapshot(snapshot)["manifest"] == {"test": True}
    clone = b.clone(snapshot, disk)
    assert b.content(clone) == expected
    with b.open(clone) as client:
        client.write(100, b"on b")
        client.flush()
    b.restart()
    assert b.content(clone)[100:104] == b"on b"


def test_a_replication_goes_on_after_either_store_was_killed(pair: tuple[EngineSite, EngineSite]) -> None:
    a, b = pair
    disk = a.disk(64 * MiB)
    fill(a, disk, 64 * MiB, seed=3)
    snapshot = a.snapshot(disk)
    a.engine.wait_rooted(snapshot)
    session = str(uuid.uuid4())
    b.engine.grant(session, a.site_id, snapshot, 1 << 40, 600)
    order = {"address": b.address, "port": b.peer_port, "site_id": b.site_id, "session": session}
    a.engine.sync_start(session, snapshot, **order)
    wait_for(lambda: a.engine.sync_status(session)["chunks_sent"] > 50, "some chunks")
    b.kill("store")
    wait_for(lambda: a.engine.sync_status(session)["state"] == "failed", "the failure to be noticed")
    assert a.engine.sync_status(session)["error"]["code"] == "peer_unreachable"
    b.start_store()
    b.wait_ready()
    assert b.engine.snapshots() == []
    wait_for(lambda: _reaches(a, session, snapshot, order), "the second run")
    assert b.content(f"snapshot:{snapshot}:{disk}") == a.content(disk)


def _reaches(site: EngineSite, session: str, snapshot: str, order: dict[str, Any]) -> bool:
    site.engine.sync_start(session, snapshot, **order)
    wait_for(lambda: site.engine.sync_status(session)["state"] != "running", "the run")
    return bool(site.engine.sync_status(session)["state"] == "done")
