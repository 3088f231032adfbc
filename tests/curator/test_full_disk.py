# SPDX-License-Identifier: Apache-2.0
"""A really full file system under the real processes: refused early, nothing lost, all goes on when space returns."""

from __future__ import annotations

import random
import resource
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stargate.errors import NoSpace
from stargate.nbd.client import NbdRequestFailed
from stargate.units import KiB, MiB
from tests.curator.conftest import Hog
from tests.support.engine_site import EngineSite, wait_for

Sites = Callable[..., EngineSite]
PIECE = 256 * KiB
ENOSPC = 28


def fill(site: EngineSite, disk: str, seed: int, *, first: int = 0) -> dict[int, bytes]:
    """Write until the guest is told that there is no space; what was acknowledged."""
    rng = random.Random(seed)
    taken: dict[int, bytes] = {}
    with site.open(disk) as client:
        for at in range(first, client.size_bytes, PIECE):
            data = rng.randbytes(PIECE)
            try:
                client.write(at, data)
            except NbdRequestFailed as exc:
                if exc.errno != ENOSPC:
                    raise
                break
            taken[at] = data
        else:
            raise AssertionError("the guest was never told")
        client.flush()
    return taken


def try_write(site: EngineSite, disk: str, at: int, data: bytes, taken: dict[int, bytes]) -> bool:
    """Remembered when it was taken; when it was refused the old bytes must stay."""
    with site.open(disk) as client:
        try:
            client.write(at, data)
        except NbdRequestFailed as exc:
            if exc.errno != ENOSPC:
                raise
            return False
    taken[at] = data
    return True


def check(site: EngineSite, disk: str, taken: dict[int, bytes]) -> None:
    with site.open(disk) as client:
        for at, data in taken.items():
            assert client.read(at, PIECE) == data, f"offset {at}"


def level(site: EngineSite) -> str:
    return str(site.engine.usage()["level"])


def well(site: EngineSite) -> bool:
    """Both processes say so, and all is drained."""
    return level(site) == site.engine.status()["space"] == "good" and site.drained()


def reserved(site: EngineSite) -> bool:
    return bool(site.engine.usage()["reserve_bytes"])


def blocks(site: EngineSite) -> int:
    """Bytes that the file system holds for the extent groups."""
    folder = site.folder / "stargate" / "egroups"
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_guest_that_fills_the_source_gets_enospc_and_goes_on_when_there_is_space(sites: Sites, kind: str) -> None:
    site = sites(kind=kind)
    pids = [p.pid for p in (site.front, site.store) if p]
    disk = site.disk(512 * MiB)
    taken = fill(site, disk, 1)
    wait_for(lambda: level(site) == "full", "the level")
    check(site, disk, taken)
    with pytest.raises(NoSpace):
        site.snapshot(disk)
    site.engine.vdisk_delete(site.disk(MiB))
    assert [p.pid for p in (site.front, site.store) if p and p.poll() is None] == pids
    site.restart()
    check(site, disk, taken)
    assert level(site) == "full"


def test_when_another_program_takes_the_last_byte_a_snapshot_can_still_be_deleted(sites: Sites) -> None:
    """The deletion lies in the log behind data that cannot be drained: the reserve and the early word see to it."""
    site = sites()
    disk = site.disk(64 * MiB)
    rng = random.Random(3)
    with site.open(disk) as client:
        for at in range(0, 32 * MiB, PIECE):
            client.write(at, rng.randbytes(PIECE))
    old = site.snapshot(disk)
    with site.open(disk) as client:
        client.write(0, bytes(32 * MiB))
    site.engine.wait_rooted(site.snapshot(disk))
    wait_for(site.drained, "the drain")
    before = blocks(site)
    assert before > 32 * MiB
    wait_for(lambda: reserved(site), "the reserve")
    wait_for(lambda: (site.engine.what_if([old])["freed_bytes"] or 0) >= 32 * MiB, "a scan after both snapshots")
    hog = Hog(site)
    hog.take()
    taken: dict[int, bytes] = {}
    for at in range(0, 8 * MiB, PIECE):
        if not try_write(site, disk, at, rng.randbytes(PIECE), taken):
            break
    assert taken
    wait_for(lambda: level(site) == "full", "the level")
    assert not site.drained()
    foretold = site.engine.what_if([old])
    assert foretold["exact"]
    assert foretold["freed_bytes"] >= 32 * MiB
    site.engine.snapshot_delete(old)
    wait_for(lambda: blocks(site) <= before - 31 * MiB, "the space")
    wait_for(site.drained, "the drain, which has space again")
    check(site, disk, taken)
    wait_for(lambda: level(site) != "full", "the level")
    wait_for(lambda: reserved(site), "the reserve")
    hog.let_go()
    wait_for(lambda: well(site), "the level")
    site.engine.wait_rooted(site.snapshot(disk))
    site.restart()
    check(site, disk, taken)


def test_space_that_returns_by_itself_needs_nobody(sites: Sites) -> None:
    """Taken during drain and fold, at several fillings; no process is restarted."""
    site = sites()
    pids = [p.pid for p in (site.front, site.store) if p]
    disk = site.disk(64 * MiB)
    hog, rng, taken = Hog(site), random.Random(4), {}
    for turn, leave in enumerate((0, 300 * KiB, 2 * MiB)):
        for n in range(24):
            at = rng.randrange(64 * MiB // PIECE) * PIECE
            try_write(site, disk, at, rng.randbytes(PIECE), taken)
            if n == 8:
                site.snapshot(disk)
            if n == 12:
                hog.take(leave_bytes=leave)
        wait_for(lambda: level(site) == "full", f"the level, turn {turn}")
        check(site, disk, taken)
        hog.let_go()
        wait_for(lambda: well(site), "the drain")
        site.engine.wait_rooted(site.snapshot(disk))
        assert site.engine.store.call("status")["last_error"] == ""
    check(site, disk, taken)
    assert [p.pid for p in (site.front, site.store) if p and p.poll() is None] == pids


def test_a_store_starts_on_a_full_disk(sites: Sites) -> None:
    site = sites()
    disk = site.disk(8 * MiB)
    with site.open(disk) as client:
        client.write(0, b"x" * MiB)
        client.flush()
    old = site.snapshot(disk)
    site.engine.wait_rooted(old)
    wait_for(lambda: reserved(site), "the reserve")
    hog = Hog(site)
    hog.take()
    site.restart()
    assert site.content(disk)[:MiB] == b"x" * MiB
    site.engine.snapshot_delete(old)
    wait_for(lambda: old not in {s["snapshot"] for s in site.engine.snapshots()}, "the deletion")
    site.restart()
    hog.let_go()
    wait_for(lambda: well(site), "the drain")
    assert site.content(disk)[:MiB] == b"x" * MiB


def test_the_log_keeps_room_for_orders_when_it_cannot_grow(sites: Sites) -> None:
    site = sites(log_cap_mib=64)
    disk, other = site.disk(64 * MiB), site.disk(MiB)
    site.kill("store")
    Hog(site).take()
    taken = fill(site, disk, 5)
    for _ in range(20):
        site.engine.set_role([other], "readonly", reason="test")
        site.engine.set_role([other], "active", reason="test")
    check(site, disk, taken)
    Hog(site).let_go()
    site.start_store()
    try:
        wait_for(site.drained, "the drain", 8)
    except AssertionError:
        print(site.engine.status(), site.engine.usage(), site.logs())
        raise
    more = {at + 32 * MiB: data for at, data in taken.items()}
    with site.open(disk) as client:
        for at, data in more.items():
            client.write(at, data)
    check(site, disk, {**taken, **more})


def send(a: EngineSite, b: EngineSite, snapshot: str, session: str) -> dict[str, Any]:
    """One attempt, to its end."""
    a.engine.sync_start(
        session, snapshot, address=b.address, port=b.peer_port, site_id=b.site_id, session=session, compress=False
    )
    wait_for(lambda: a.engine.sync_status(session)["state"] != "running", "the replication")
    return a.engine.sync_status(session)


def test_a_target_that_fills_up_during_a_sync_refuses_and_the_same_sync_goes_on(
    pair: tuple[EngineSite, EngineSite],
) -> None:
    a, b = pair
    disk, rng = a.disk(64 * MiB), random.Random(6)
    with a.open(disk) as client:
        for at in range(0, 48 * MiB, MiB):
            client.write(at, rng.randbytes(MiB))
    snapshot = a.snapshot(disk)
    a.engine.wait_rooted(snapshot)
    session = str(uuid.uuid4())
    b.engine.grant(session, a.site_id, snapshot, 1 << 30, 600)
    hog = Hog(b)
    hog.take(leave_bytes=24 * MiB)
    status = send(a, b, snapshot, session)
    assert status["state"] == "failed"
    assert status["error"]["code"] == "no_space", status
    wait_for(lambda: level(b) == "full", "the level, which is looked at four times a second")
    assert snapshot not in {s["snapshot"] for s in b.engine.snapshots()}
    with pytest.raises(NoSpace):
        b.engine.grant(str(uuid.uuid4()), a.site_id, str(uuid.uuid4()), 1 << 30, 600)
    hog.let_go()
    b.engine.sweep()
    wait_for(lambda: well(b), "the level")
    status = send(a, b, snapshot, session)
    assert status["state"] == "done", status
    assert status["chunks_sent"] < 48 * 16, "what had arrived is not sent again"
    assert b.content(f"snapshot:{snapshot}:{disk}") == a.content(disk)


def test_a_limit_that_the_file_system_does_not_tell_of_stops_the_drain_only(folder: Path) -> None:
    """RLIMIT_FSIZE, which every user has: files of the store cannot grow beyond it."""
    site = EngineSite(folder, log_cap_mib=24, segment_mib=2)
    try:
        site.start()
        disk = site.disk(64 * MiB)
        assert site.store is not None
        resource.prlimit(site.store.pid, resource.RLIMIT_FSIZE, (6 * MiB, resource.RLIM_INFINITY))
        rng, taken = random.Random(7), dict[int, bytes]()
        for at in range(0, 64 * MiB, PIECE):
            if not try_write(site, disk, at, rng.randbytes(PIECE), taken):
                break
        wait_for(lambda: site.engine.status()["space"] == "full", "the front to be told")
        check(site, disk, taken)
        with pytest.raises(NoSpace):
            site.snapshot(disk)
        resource.prlimit(site.store.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_for(lambda: well(site), "the drain")
        site.engine.wait_rooted(site.snapshot(disk))
        check(site, disk, taken)
    finally:
        site.stop()
