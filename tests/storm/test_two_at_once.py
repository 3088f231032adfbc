# SPDX-License-Identifier: Apache-2.0
"""Frozen halves, halves that come back from a freeze, and two of a kind at once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stargate.front.service import STORE_WAIT_SECONDS
from stargate.peer.identity import create_identity
from stargate.units import KiB, MiB
from tests.storm.group import DISKS, Group
from tests.storm.kills import first_block, revive
from tests.support.engine_site import EngineSite, wait_for

ENDED_SECONDS = 60
BULK_BYTES = 16 * MiB


@pytest.fixture
def site(folder: Path) -> Iterator[EngineSite]:
    engine = EngineSite(folder)
    try:
        yield engine.start()
    finally:
        engine.stop()


@pytest.fixture
def group(site: EngineSite) -> Group:
    return Group(site, seed=5)


def stop(process: subprocess.Popen[bytes] | None) -> subprocess.Popen[bytes]:
    """SIGSTOP, and wait until the process stands still."""
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "the freeze")
    return process


def resume(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGCONT)


def refused(site: EngineSite, part: str) -> str:
    """Start a second `part` over the same folder; what it said when it ended."""
    first = getattr(site, part)
    try:
        getattr(site, f"start_{part}")()
        second: subprocess.Popen[bytes] = getattr(site, part)
        assert second.wait(ENDED_SECONDS) == 1
    finally:
        setattr(site, part, first)
    return (site.folder / f"{part}.log").read_text().splitlines()[-1]


def test_it_refuses_a_second_front_while_the_first_goes_on(group: Group, site: EngineSite) -> None:
    group.load.start(site.open)
    assert refused(site, "front").endswith("oplog/lock is in use by another process; stop that one first")
    group.load.go_on(50)
    group.load.stop()
    group.check()


def test_it_refuses_a_second_front_while_the_first_is_frozen(group: Group, site: EngineSite) -> None:
    group.load.start(site.open)
    frozen = stop(site.front)
    assert "in use by another process" in refused(site, "front")
    resume(frozen)
    group.load.go_on(50)
    assert group.load.stop() == 0, "no writer was cut off"
    group.check()


def test_it_refuses_a_second_store_while_the_first_is_frozen_and_loses_nothing(group: Group, site: EngineSite) -> None:
    """A drainer that stands still keeps its folder; when it goes on, it goes on from where it was."""
    group.load.start(site.open)
    group.order("snapshot")
    frozen = stop(site.store)
    group.load.go_on(100)
    assert refused(site, "store").endswith("catalog/lock is in use by another process; stop that one first")
    resume(frozen)
    group.order("fold")
    assert group.load.stop() == 0
    group.check()


def test_it_drains_again_after_every_freeze_of_the_store(group: Group, site: EngineSite) -> None:
    """Frozen at any moment of drain and fold, while the front goes on and is even killed."""
    for number in range(6):
        group.load.start(site.open)
        group.order("snapshot")
        frozen = stop(site.store)
        group.order("snapshot")
        if number % 2:
            site.kill("front")
            site.start_front()
        resume(frozen)
        wait_for(lambda: revive(site, first_block(group.disks[0])), "to be served")
        group.load.stop()
        site.wait_ready()
        for snapshot in list(group.points):
            site.engine.wait_rooted(snapshot)
        group.check()


def test_a_resurrected_store_commits_nothing_after_another_took_over(group: Group, site: EngineSite) -> None:
    """Somebody removed the locks of a frozen store "because they were stale": its mark is old, it stops by itself."""
    group.load.start(site.open)
    group.order("fold")
    frozen = stop(site.store)
    for lock in ("catalog/lock", "egroups.lock"):
        (site.folder / "stargate" / lock).unlink()
    site.start_store()
    wait_for(lambda: (site.folder / "store.log").read_text().count("store runs") == 2, "the second store")
    group.load.go_on(50)
    resume(frozen)
    assert frozen.wait(ENDED_SECONDS) == 0
    assert "another store process has taken over this data folder" in (site.folder / "store.log").read_text()
    site.wait_ready()
    group.order("fold")
    group.load.stop()
    group.check()
    site.restart()
    group.check()


def test_of_two_first_starts_at_once_one_serves_and_the_other_is_refused(folder: Path) -> None:
    site = EngineSite(folder)
    fronts: list[subprocess.Popen[bytes]] = []
    try:
        site.start_store()
        for _ in range(2):
            site.start_front()
            assert site.front is not None
            fronts.append(site.front)
        wait_for(lambda: any(front.poll() is not None for front in fronts), "one to be refused")
        loser, site.front = sorted(fronts, key=lambda front: front.poll() is None)
        assert loser.returncode == 1
        site.wait_ready()
        disk = site.disk(MiB)
        with site.open(disk) as client:
            client.write(0, b"one")
            client.flush()
        site.restart()
        assert site.content(disk)[:3] == b"one"
    finally:
        for front in fronts:
            front.kill()
            front.wait()
        site.stop()


def test_a_first_front_waits_for_a_store_that_is_slow_to_start(folder: Path) -> None:
    """The store had made its folders and no index yet: there is nothing to serve from without it."""
    site = EngineSite(folder)
    (folder / "stargate" / "index").mkdir(parents=True)
    try:
        site.start_front()
        assert site.front is not None
        with pytest.raises(subprocess.TimeoutExpired):
            site.front.wait(STORE_WAIT_SECONDS + 2)
        site.start_store()
        site.wait_ready()
    finally:
        site.stop()


def test_a_kill_of_a_frozen_pair_loses_nothing(group: Group, site: EngineSite) -> None:
    group.load.start(site.open)
    group.order("clone")
    stop(site.store)
    group.load.go_on(100)
    stop(site.front)
    site.kill()
    revive(site, first_block(group.disks[0]))
    site.wait_ready()
    group.load.stop()
    group.check()
    assert len(group.disks) == DISKS


def written(process: subprocess.Popen[bytes]) -> int:
    """Bytes that a process has handed to the kernel."""
    lines = Path(f"/proc/{process.pid}/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("wchar:")).split()[1])


def fill(site: EngineSite, disk: str, image: bytearray, rng: random.Random) -> None:
    """Whole chunks and single blocks: for extent groups and hot tier."""
    with site.open(disk) as client:
        for at in range(0, BULK_BYTES, MiB):
            for offset, data in ((at, rng.randbytes(MiB)), (BULK_BYTES + 2 * at, rng.randbytes(4 * KiB))):
                client.write(offset, data)
                image[offset : offset + len(data)] = data


def taken_over(site: EngineSite, at_bytes: int) -> subprocess.Popen[bytes]:
    """Freeze the store when it has written so much, inside a drain window; another one takes its place."""
    assert site.store is not None
    store, before = site.store, written(site.store)
    snapshot = site.snapshot(*[str(disk["vdisk"]) for disk in site.engine.front.call("vdisks")])
    wait_for(lambda: written(store) > before + at_bytes, f"the drain for {snapshot}")
    frozen = stop(store)
    for lock in ("catalog/lock", "egroups.lock"):
        (site.folder / "stargate" / lock).unlink()
    log = site.folder / "store.log"
    runs = log.read_text().count("store runs")
    site.start_store()
    wait_for(lambda: log.read_text().count("store runs") > runs, "the other store")
    site.kill("front")  # it would wait for the frozen one
    site.start_front()
    site.wait_ready()
    return frozen


def test_a_store_frozen_in_a_window_and_resurrected_writes_over_nothing(site: EngineSite) -> None:
    """All that both wrote reads back, and the offline check finds every stored byte sound."""
    rng = random.Random(seed := random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed}")
    image = bytearray(4 * BULK_BYTES)
    disk = site.disk(len(image))
    for _ in range(3):
        fill(site, disk, image, rng)
        frozen = taken_over(site, rng.randrange(BULK_BYTES // 2))
        fill(site, disk, image, rng)
        site.engine.wait_rooted(site.snapshot(disk))
        resume(frozen)
        assert frozen.wait(ENDED_SECONDS) == 0
        fill(site, disk, image, rng)
        snapshot = site.snapshot(disk)
        site.engine.wait_rooted(snapshot)
        assert site.content(f"snapshot:{snapshot}:{disk}") == image
    site.stop()
    create_identity(site.folder / "identity", "site")  # a part of what is checked
    command = [sys.executable, "-m", "stargate", "check", "--data", str(site.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
