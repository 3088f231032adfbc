# SPDX-License-Identifier: Apache-2.0
"""A snapshot of what was just written is replicated while the engine still drains and folds it: it arrives whole, and
whatever is ordered or dies meanwhile, it does not stay half done on either site.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from stargate.units import GiB, MiB
from tests.support.sites import Site, wait_for
from tests.support.story import Story, protect

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(400)]

BYTES = 256 * MiB
OPEN = {"PENDING", "RUNNING", "PAUSED"}


def written(site: Site, word: str, seed: int) -> Story:
    """A domain whose system disk was filled with noise a moment ago."""
    story = protect(site, word, system_bytes=GiB, seed=seed)
    rng = random.Random(seed)
    with site.open(story.system) as guest:
        for at in range(0, BYTES, MiB):
            guest.write(at, rng.randbytes(MiB))
        guest.flush()
    return story


def ordered(a: Site, b: Site, story: Story) -> str:
    """Take Snapshot, to `b` as well; the snapshot's uuid as soon as there is one, and its transfer has begun."""
    a.api.post(a.path(story.domain, "take-snapshot"), {"sites": [a.peer(b)]}, expect=202)
    snapshot = str(wait_for(lambda: a.snapshots(story.domain), "the snapshot")[0]["uuid"])
    wait_for(lambda: phase(a, snapshot) not in {"", "queued", "offer"}, "the transfer")
    return snapshot


def row(site: Site, snapshot: str, direction: str = "out") -> dict[str, Any]:
    rows = site.api.rows("replications/", snapshot=snapshot, direction=direction)
    return rows[0] if rows else {}


def phase(site: Site, snapshot: str) -> str:
    return str(row(site, snapshot).get("phase", ""))


def same(a: Site, b: Site, story: Story, snapshot: str) -> None:
    for disk in story.disk_ids.values():
        name = f"snapshot:{snapshot}:{disk}"
        assert a.checksum(name) == b.checksum(name)


def over(site: Site, snapshot: str, direction: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        found = row(site, snapshot, direction)
        return found if found and found["state"] not in OPEN else None

    found: dict[str, Any] = wait_for(ended, f"the end of {snapshot} at {site.name}")
    return found


def test_it_sends_what_was_just_written_early(sites: tuple[Site, Site]) -> None:
    a, b = sites
    story = written(a, "fresh", seed=71)
    a.api.post(a.path(story.domain, "take-snapshot"), {"sites": [a.peer(b)]}, expect=202)
    snapshot = str(wait_for(lambda: a.snapshots(story.domain), "the snapshot")[0]["uuid"])
    seen: list[tuple[str, int]] = []

    def arrived() -> bool:
        found = row(a, snapshot)
        if found:
            seen.append((found["phase"], found["chunks_sent"]))
        return bool(found) and found["state"] not in OPEN

    wait_for(arrived, "the replication")
    assert a.replicated(snapshot)["chunks_sent"] >= BYTES // (64 * 1024)
    assert max((sent for name, sent in seen if name == "fold"), default=0) > 0, sorted(set(seen))
    same(a, b, story, snapshot)


def test_it_goes_on_after_a_pause(sites: tuple[Site, Site]) -> None:
    a, b = sites
    story = written(a, "paused", seed=72)
    snapshot = ordered(a, b, story)
    found = row(a, snapshot)
    assert found["phase"] in {"fold", "sync"}
    a.api.post(f"replications/{found['uuid']}/pause/", {})
    assert row(a, snapshot)["state"] == "PAUSED"
    a.api.post(f"replications/{found['uuid']}/resume/", {})
    a.replicated(snapshot)
    same(a, b, story, snapshot)


def test_it_is_over_on_both_sites_when_it_is_aborted_and_the_snapshot_deleted(sites: tuple[Site, Site]) -> None:
    a, b = sites
    story = written(a, "aborted", seed=73)
    snapshot = ordered(a, b, story)
    found = row(a, snapshot)
    assert found["phase"] in {"fold", "sync"}
    a.api.post(f"replications/{found['uuid']}/abort/", {})
    assert over(a, snapshot, "out")["state"] == "ABORTED"
    a.api.post(f"snapshots/{snapshot}/", method="DELETE", expect=204)
    there = over(b, snapshot, "in")
    assert there["state"] == "ABORTED"
    assert there["error"].startswith("a gave it up: ")


@pytest.mark.parametrize("child", ["stargate-store", "stargate-front", "worker"])
def test_it_arrives_although_a_process_of_the_source_was_killed_meanwhile(sites: tuple[Site, Site], child: str) -> None:
    a, b = sites
    story = written(a, f"killed-{child}", seed=74)
    snapshot = ordered(a, b, story)
    assert phase(a, snapshot) in {"fold", "sync"}
    a.kill(child)
    a.replicated(snapshot)
    same(a, b, story, snapshot)
