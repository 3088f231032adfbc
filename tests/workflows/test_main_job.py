# SPDX-License-Identifier: Apache-2.0
"""The main job on two real sites: protect, snapshot, replicate, restore, clone, migrate, fail back, lose a site."""

from __future__ import annotations

import hashlib
import math
import random
import time
from pathlib import Path

import pytest

from stargate.nbd.link import NbdError
from stargate.units import MiB
from tests.support.foreign import mounted, nbdfuse, run
from tests.support.sites import Site, wait_for
from tests.support.story import Story, protect

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
PROGRAMS = ("nbdfuse", "mkfs.ext4", "e2fsck", "fusermount3")


@pytest.mark.root
@pytest.mark.foreign(*PROGRAMS)
@pytest.mark.timeout(400)
def test_it_carries_a_domain_through_its_whole_life(sites: tuple[Site, Site], tmp_path: Path) -> None:
    """The scenario of the main job, in its order. Each step says what it shows."""
    a, b = sites
    story = protect(a, "payroll", system_bytes=32 * MiB, seed=41)
    first = write_ext4(a, story, tmp_path / "first", seed=1)
    schedule_to(a, b, story)
    adhoc_under_load(a, b, story)
    overwrite_in_place(a, story, tmp_path)
    clone_with_prefixes(a, story, first, tmp_path)
    migrate_under_load(a, b, story)
    fail_back(a, b, story)
    lose_and_activate(a, b, story)
    stale_site_returns(a, b, story)
    go_home(a, b, story)
    read_ext4(a, story.system, first, tmp_path / "last")


def write_ext4(site: Site, story: Story, folder: Path, *, seed: int) -> dict[str, str]:
    """A guest makes a file system on its disk over NBD and fills it; returns file name -> checksum."""
    rng = random.Random(seed)
    folder.mkdir()
    sums = {}
    with nbdfuse(site.uri(story.system), folder / "fuse") as device:
        run("mkfs.ext4", "-q", "-F", device)
        with mounted(device, folder / "mnt") as mount:
            for number in range(12):
                data = rng.randbytes(rng.randrange(1, 200_000))
                (mount / f"file{number}").write_bytes(data)
                sums[f"file{number}"] = hashlib.sha256(data).hexdigest()
    return sums


def read_ext4(site: Site, export: str, sums: dict[str, str], folder: Path) -> None:
    """The file system is clean and holds exactly these files."""
    folder.mkdir()
    with nbdfuse(site.uri(export), folder / "fuse") as device:
        run("e2fsck", "-fn", device)
        with mounted(device, folder / "mnt") as mount:
            found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in mount.glob("file*")}
    assert found == sums


def schedule_to(a: Site, b: Site, story: Story) -> None:
    """A new schedule takes its first snapshot at once and replicates it; it is listed with the composite id there."""
    remotes = [{"site": a.peer(b), "keep": 2}]
    body = {"type": "HOURLY", "every_nth": 1, "local_keep": 2, "remotes": remotes}
    a.api.post(a.path(story.domain, "schedules"), body, expect=201)
    row = wait_for(lambda: a.snapshots(story.domain, kind="scheduled"), "the scheduled snapshot")[0]
    a.replicated(row["uuid"])
    there = b.snapshots(story.domain)[0]
    assert (there["uuid"], there["received"]) == (row["uuid"], True)
    site = a.api.get("site/")
    assert there["id"] == f"{site['cluster_id']}:{site['incarnation_id']}:{row['id']}"
    assert b.domain(story.domain)["mode"] == "inactive"


def adhoc_under_load(a: Site, b: Site, story: Story) -> None:
    """Take Snapshot with a remote site while guests write: one point in time, the same bytes on both sites."""
    story.load.start(a.open)
    ordered_at = time.monotonic()
    row = a.take_snapshot(story.domain, retention_seconds=7200)
    returned_at = time.monotonic()
    story.load.go_on(20)
    a.api.post(a.path(story.domain, "take-snapshot"), {"sites": [a.peer(b)], "retention_seconds": 7200}, expect=202)
    newest = wait_for(lambda: [s for s in a.snapshots(story.domain) if s["created_at"] > row["created_at"]], "another")
    assert story.load.stop() == 0
    a.replicated(newest[0]["uuid"])
    names = story.snapshot_exports(row["uuid"])
    story.load.judge(a.open, names, ordered_at=ordered_at, returned_at=returned_at)
    names = story.snapshot_exports(newest[0]["uuid"])
    assert story.load.judge(a.open, names, ordered_at=returned_at, returned_at=math.inf) == story.load.judge(
        b.open, names, ordered_at=returned_at, returned_at=math.inf
    )
    for export in story.disk_ids:
        name = f"snapshot:{newest[0]['uuid']}:{story.disk_ids[export]}"
        assert a.checksum(name) == b.checksum(name)


def overwrite_in_place(a: Site, story: Story, folder: Path) -> None:
    """Restore > Overwrite: every disk has the checksum of the snapshot again, and the state before was kept."""
    point = story.load.judge_everything(a.open)
    row = a.take_snapshot(story.domain, retention_seconds=7200)
    before = {export: a.checksum(export) for export in story.disk_ids}
    with a.open(story.system) as guest:
        guest.write(0, b"\xff" * (2 * MiB), fua=True)
    story.load.start(a.open)
    story.load.stop()
    damaged = {export: a.checksum(export) for export in story.disk_ids}
    assert not set(damaged.values()) & set(before.values())
    task = a.api.ordered(f"snapshots/{row['uuid']}/restore/", {})
    a.api.done(task)
    assert {export: a.checksum(export) for export in story.disk_ids} == before
    safety = a.snapshots(story.domain, kind="safety")[0]
    kept = {export: a.checksum(f"snapshot:{safety['uuid']}:{key}") for export, key in story.disk_ids.items()}
    assert kept == damaged
    story.load.went_back_to(point)
    story.load.judge_everything(a.open)


def clone_with_prefixes(a: Site, story: Story, sums: dict[str, str], folder: Path) -> None:
    """Restore > Create new entities: named with the prefixes, off, unprotected, with the same files."""
    row = a.snapshots(story.domain)[0]
    body = {"vm_prefix": "copy-", "volume_group_prefix": "spare-"}
    a.api.done(a.api.ordered(f"snapshots/{row['uuid']}/clone/", body))
    vm = a.api.rows("vms/", name=f"copy-{story.vm}")[0]
    assert vm["power_state"] == "off"
    assert a.api.rows("volume-groups/", name=f"spare-{story.group}")
    assert len(a.domain(story.domain)["entities"]) == 2
    system = min(vm["disks"], key=lambda disk: int(disk["index"]))
    assert system["uuid"] not in story.disk_ids.values()
    restored = a.snapshots(story.domain, kind="safety")[0]
    source = f"snapshot:{row['uuid']}:{story.disk_ids[story.system]}"
    assert a.checksum(system["export_name"]) == a.checksum(source), restored


def migrate_under_load(a: Site, b: Site, story: Story) -> None:
    """Migrate while guests write: they are cut by the fence; every acknowledged write is read from the other site."""
    story.load.start(a.open)
    task = a.migrate(story.domain, b)
    story.load.wait_cut()
    a.api.done(task)
    story.load.judge_everything(b.open)
    assert (a.domain(story.domain)["mode"], b.domain(story.domain)["mode"]) == ("inactive", "active")
    assert a.writable(story.disk_ids) == []
    assert not a.api.rows("vms/", name=story.vm)
    assert b.api.rows("vms/", name=story.vm)
    remotes = [schedule["remotes"] for schedule in b.api.rows("schedules/", domain=b.domain(story.domain)["uuid"])]
    assert remotes == [[{"site": b.peer(a), "keep": 2}]]


def fail_back(a: Site, b: Site, story: Story) -> None:
    """The way back is the same order, given on the other site; what was written there comes along."""
    story.load.start(b.open)
    task = b.migrate(story.domain, a)
    story.load.wait_cut()
    b.api.done(task)
    story.load.judge_everything(a.open)
    assert (a.domain(story.domain)["mode"], b.domain(story.domain)["mode"]) == ("active", "inactive")
    assert b.writable(story.disk_ids) == []


def lose_and_activate(a: Site, b: Site, story: Story) -> None:
    """Every process of site a is killed and its folder is gone: Activate on b serves the newest snapshot."""
    a.take_snapshot(story.domain, to=b, retention_seconds=7200)
    a.kill()
    a.move_away()
    b.api.done(b.api.ordered(b.path(story.domain, "activate"), {}))
    story.load.judge_everything(b.open)
    story.load.start(b.open)
    assert story.load.stop() == 0
    story.load.judge_everything(b.open)


def stale_site_returns(a: Site, b: Site, story: Story) -> None:
    """Site a is back: read-only here, the alert on both, no snapshot, no migration; Deactivate keeps its state."""
    a.bring_back()
    a.begin_up()
    with pytest.raises((NbdError, OSError)):
        wait_for(lambda: write_once(a, story.system), "a refused write", seconds=5)
    a.wait_up()
    wait_for(lambda: a.domain(story.domain)["stale_state"] == "active_elsewhere", "the verdict")
    for site in (a, b):
        wait_for(lambda site=site: site.alerts("active_on_multiple_sites"), f"the alert of {site.name}")
    assert b.domain(story.domain)["stale_state"] == "none"
    for export in story.disk_ids:
        with a.open(export) as guest:
            assert guest.read_only
    assert a.api.refused(a.path(story.domain, "take-snapshot"), {})["code"] == "active_on_multiple_sites"
    body = {"site": a.peer(b)}
    assert a.api.refused(a.path(story.domain, "migrate"), body)["code"] == "active_on_multiple_sites"
    stale = {export: a.checksum(export) for export in story.disk_ids}
    a.api.done(a.api.ordered(a.path(story.domain, "deactivate")))
    kept = a.snapshots(story.domain, kind="deactivate")[0]
    assert kept["expires_at"] is None
    assert {e: a.checksum(f"snapshot:{kept['uuid']}:{key}") for e, key in story.disk_ids.items()} == stale
    assert a.writable(story.disk_ids) == []
    wait_for(lambda: not b.alerts("active_on_multiple_sites"), "the end of the alert on b")
    assert not a.alerts("active_on_multiple_sites")


def go_home(a: Site, b: Site, story: Story) -> None:
    """Migrate back: only now, on the operator's order, the domain is where it began."""
    b.api.done(b.migrate(story.domain, a))
    story.load.judge_everything(a.open)
    story.load.start(a.open)
    assert story.load.stop() == 0
    assert (a.domain(story.domain)["mode"], b.domain(story.domain)["mode"]) == ("active", "inactive")


def write_once(site: Site, export: str) -> bool:
    """One write of zeros behind everything; False while nobody listens yet."""
    try:
        guest = site.open(export)
    except ConnectionError:
        return False
    with guest:
        guest.write(guest.size_bytes - 4096, bytes(4096))
    return True
