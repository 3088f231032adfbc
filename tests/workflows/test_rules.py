# SPDX-License-Identifier: Apache-2.0
"""Rules of the main job that need both sites: what travels, who may migrate, what is refused, how long a copy lives."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from stargate.units import MiB, TiB
from tests.support.holds import domain_locked, standing_still
from tests.support.sites import Site, wait_for
from tests.support.story import protect

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(400)]
CHUNK = 64 * 1024


def sent(a: Site, b: Site, domain: str) -> dict[str, Any]:
    """Take Snapshot and replicate it; returns the finished replication as the API shows it."""
    row = a.take_snapshot(domain, to=b, retention_seconds=3600)
    return a.replicated(row["uuid"])


def test_it_sends_only_what_changed(sites: tuple[Site, Site]) -> None:
    """Nothing for an unchanged domain, about 1 % for 1 % changed; the bytes saved are shown."""
    a, b = sites
    rng = random.Random(61)
    story = protect(a, "archive", system_bytes=16 * MiB, seed=61)
    with a.open(story.system) as guest:
        for at in range(0, 16 * MiB, MiB):
            guest.write(at, rng.randbytes(MiB))
        guest.flush()
    first = sent(a, b, story.domain)
    assert (first["chunks_total"], first["chunks_sent"]) == (256, 256)
    unchanged = sent(a, b, story.domain)
    assert (unchanged["chunks_sent"], unchanged["done_bytes"]) == (0, unchanged["total_bytes"])
    with a.open(story.system) as guest:
        for chunk in (3, 77, 200):
            guest.write(chunk * CHUNK + 4096, rng.randbytes(4096))
        guest.flush()
    little = sent(a, b, story.domain)
    assert little["chunks_sent"] == 3
    assert little["wire_bytes"] < first["wire_bytes"] / 20
    assert all(row["base_snapshot_uuid"] for row in (unchanged, little))


def test_it_moves_no_chunk_of_a_file_that_is_there_under_another_name(sites: tuple[Site, Site]) -> None:
    """Global deduplication: the second domain shares nothing with the first but content."""
    a, b = sites
    content = random.Random(62).randbytes(4 * MiB)
    rows = []
    for name in ("one", "two"):
        stored = a.api.upload(f"files/upload/?path=/images/{name}.iso&container=default", content)
        domain = a.api.post("protection-domains/", {"name": f"images-{name}"}, expect=201)
        a.api.post(f"protection-domains/{domain['uuid']}/protect/", {"entities": [stored["uuid"]]})
        rows.append(sent(a, b, f"images-{name}"))
    assert (rows[0]["chunks_sent"], rows[1]["chunks_sent"]) == (64, 0)
    assert rows[1]["chunks_deduplicated"] == 64
    assert rows[1]["saved_bytes"] > 3 * MiB


def test_it_lets_one_of_two_people_migrate(sites: tuple[Site, Site]) -> None:
    """Both press Migrate at once: one gets the task, the other a 409 that says why."""
    a, b = sites
    story = protect(a, "race", seed=63)
    path, body = a.path(story.domain, "migrate"), {"site": a.peer(b)}
    with domain_locked(a, story.domain):  # neither can be over before the other has asked
        with ThreadPoolExecutor(2) as people:
            answers = list(people.map(lambda _: a.api.call("POST", path, body), range(2)))
        assert sorted(status for status, _ in answers) == [202, 409]
    refused = next(answer for status, answer in answers if status == 409)["error"]
    assert refused["message"]
    assert refused["next_step"]
    task = next(answer for status, answer in answers if status == 202)["task"]["uuid"]
    a.api.done(task)
    assert (a.domain(story.domain)["mode"], b.domain(story.domain)["mode"]) == ("inactive", "active")


def test_it_refuses_a_migration_that_cannot_work_before_anything_happens(sites: tuple[Site, Site]) -> None:
    """Target unreachable, target too small: guests go on writing, no snapshot was taken, the phase never changed."""
    a, b = sites
    story = protect(a, "giant", seed=64)
    path, body = a.path(story.domain, "migrate"), {"site": a.peer(b)}
    story.load.start(a.open)
    with standing_still(b, "cerebro"):
        assert a.api.refused(path, body, status=503)["next_step"]
    disk = a.api.rows("disks/", vm=a.api.rows("vms/", name=story.vm)[0]["uuid"])[0]
    a.api.post(f"disks/{disk['uuid']}/resize/", {"size_bytes": 8 * TiB})
    error = a.api.refused(path, body)
    assert (error["code"], "free space" in error["message"]) == ("obstacles", True)
    story.load.go_on(10)
    assert story.load.stop() == 0
    domain = a.domain(story.domain)
    assert domain["phase"] == "ACTIVE"
    assert a.snapshots(story.domain) == []
    assert not a.api.rows("tasks/", object_id=domain["uuid"])


def test_it_overwrites_below_a_guest_only_when_that_is_confirmed(sites: tuple[Site, Site]) -> None:
    """A connected writer refuses the restore; confirmed, it is cut off and the disks hold the snapshot."""
    a, _ = sites
    story = protect(a, "desk", seed=65)
    story.load.start(a.open)
    story.load.stop()
    row = a.take_snapshot(story.domain, retention_seconds=3600)
    before = {export: a.checksum(export) for export in story.disk_ids}
    story.load.start(a.open)
    path = f"snapshots/{row['uuid']}/restore/"
    assert a.api.refused(path, {})["code"] == "writer_connected"
    story.load.go_on(10)
    a.api.done(a.api.ordered(path, {"disconnect_writers": True}))
    story.load.wait_cut()
    assert {export: a.checksum(export) for export in story.disk_ids} == before


def test_it_counts_the_retention_of_a_copy_from_its_receipt(sites: tuple[Site, Site]) -> None:
    """Expired copies go, with their bytes; the newest of the domain stays, whatever its age."""
    a, b = sites
    story = protect(a, "ledger", seed=66)
    keys = [a.take_snapshot(story.domain, to=b, retention_seconds=3600)["uuid"] for _ in range(2)]
    for key in keys:
        there = b.api.get(f"snapshots/{key}/")
        arrival = b.api.rows("replications/", snapshot=key, direction="in")[0]["finished_at"]
        late = datetime.fromisoformat(there["expires_at"]) - datetime.fromisoformat(arrival)
        assert abs(late - timedelta(hours=1)) < timedelta(seconds=10)
    now = datetime.fromisoformat(b.api.get(f"snapshots/{keys[1]}/")["expires_at"])
    b.expire_at(now + timedelta(minutes=1))
    assert [row["uuid"] for row in b.snapshots(story.domain)] == [keys[1]]
    b.expire_at(now + timedelta(hours=3))
    wait_for(lambda: len(b.snapshots(story.domain, include_expired="true")) == 1, "the removal")
    engine = {row["snapshot"] for row in b.engine.snapshots()}
    assert (keys[0] in engine, keys[1] in engine) == (False, True)
