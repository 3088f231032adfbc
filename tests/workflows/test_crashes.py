# SPDX-License-Identifier: Apache-2.0
"""kill -9 of every process of a site in the middle of an order: it is finished afterwards, and one site serves.

What holds an order in the middle is real as well: a process of the other site that stands still, or a lock in the
database. All phases of a migration and a receiver that dies: PRISM_LONG_TESTS=1, for each case costs the start of a
site (half a minute) and CI has five minutes for all workflows.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from stargate.units import MiB
from tests.support.holds import domain_locked, standing_still, table_locked
from tests.support.sites import Site, wait_for
from tests.support.story import Story, protect

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(400)]
LONG = bool(os.environ.get("PRISM_LONG_TESTS"))
PHASES = ("CHECK", "SNAPSHOT_1", "REPLICATE_1", "FENCE", "REPLICATE_2", "HAND_OVER", "LEAVE")
SNAPSHOTS, MEMBERS = "dataprotection_snapshot", "dataprotection_protectedentity"


def until_phase(site: Site, task: str, *phases: str) -> None:
    wait_for(lambda: site.api.task(task)["phase"] in phases, f"phase {phases}")


def the_active_one(a: Site, b: Site, story: Story) -> Site:
    """Exactly one site serves the domain, with all its disks; every acknowledged write is there."""
    modes = {site.name: site.domain(story.domain)["mode"] for site in (a, b)}
    assert sorted(modes.values()) == ["active", "inactive"], modes
    active, other = (a, b) if modes["a"] == "active" else (b, a)
    assert active.writable(story.disk_ids) == sorted(story.disk_ids)
    assert other.writable(story.disk_ids) == []
    story.load.judge_everything(active.open)
    return active


def hold_in(phase: str, a: Site, b: Site, story: Story, holds: ExitStack) -> str:
    """Order the migration and bring it to a stand in `phase`. Returns the task."""
    if phase in {"CHECK", "SNAPSHOT_1", "HAND_OVER", "LEAVE"}:
        hold = {
            "CHECK": lambda: domain_locked(a, story.domain),
            "SNAPSHOT_1": lambda: table_locked(a, SNAPSHOTS),
            "HAND_OVER": lambda: domain_locked(b, story.domain),
            "LEAVE": lambda: table_locked(a, MEMBERS),
        }[phase]
        holds.enter_context(hold())
        task = a.migrate(story.domain, b)
    else:
        task = a.migrate(story.domain, b)
        until_phase(a, task, "SNAPSHOT_1", "REPLICATE_1")
        target = holds.enter_context(ExitStack())
        target.enter_context(standing_still(b, "stargate-store"))
        until_phase(a, task, "REPLICATE_1")
        if phase != "REPLICATE_1":
            rows = holds.enter_context(ExitStack())
            rows.enter_context(table_locked(a, SNAPSHOTS))
            target.close()
            until_phase(a, task, "FENCE")
        if phase == "REPLICATE_2":
            wait_for(lambda: a.writable(story.disk_ids) == [], "the fence")
            holds.enter_context(standing_still(b, "stargate-store"))
            rows.close()
    reached = {"CHECK": ("", "CHECK"), "LEAVE": ("HAND_OVER",)}.get(phase, (phase,))
    until_phase(a, task, *reached)
    if phase == "LEAVE":
        wait_for(lambda: b.domain(story.domain)["mode"] == "active", "the activation")
    if phase in PHASES[3:]:
        wait_for(lambda: a.writable(story.disk_ids) == [], "the fence")
    return task


@pytest.mark.parametrize("phase", PHASES if LONG else ("REPLICATE_1",))
def test_it_finishes_a_migration_after_the_source_was_killed(sites: tuple[Site, Site], phase: str) -> None:
    """Wherever the order stood: after `up` it goes on, one site serves, and nothing acknowledged is lost."""
    a, b = sites
    story = protect(a, f"orders-{phase.lower().replace('_', '-')}", seed=52)
    if phase == "HAND_OVER":
        a.take_snapshot(story.domain, to=b, retention_seconds=3600)  # so that b knows the domain it is to lock
    story.load.start(a.open)
    with ExitStack() as holds:
        task = hold_in(phase, a, b, story, holds)
        a.kill()
        story.load.wait_cut()
    a.up()
    a.api.done(task)
    assert the_active_one(a, b, story) is b


def test_it_serves_on_one_site_after_the_target_was_killed_while_it_took_over(sites: tuple[Site, Site]) -> None:
    """In HAND_OVER the answer is unknown: disks stay down on the source until the target says what it did."""
    a, b = sites
    story = protect(a, "stock", seed=53)
    a.take_snapshot(story.domain, to=b, retention_seconds=3600)
    story.load.start(a.open)
    with domain_locked(b, story.domain):
        task = a.migrate(story.domain, b)
        story.load.wait_cut()
        until_phase(a, task, "HAND_OVER")
        b.kill()
    wait_for(lambda: a.domain(story.domain)["phase"] == "NEEDS_OPERATOR", "the unknown answer")
    assert a.alerts("change_mode_failure")
    assert a.writable(story.disk_ids) == []
    b.up()
    a.api.done(task)
    assert the_active_one(a, b, story) is b


def test_it_finishes_a_restore_after_both_sites_were_killed(sites: tuple[Site, Site]) -> None:
    """While it is unclear what the disks hold they are down. With its peer away the site serves, "unconfirmed"."""
    a, b = sites
    story = protect(a, "reports", seed=54)
    story.load.start(a.open)
    story.load.stop()
    point = story.load.judge_everything(a.open)
    row = a.take_snapshot(story.domain, to=b, retention_seconds=3600)
    before = {export: a.checksum(export) for export in story.disk_ids}
    story.load.start(a.open)
    with table_locked(a, SNAPSHOTS):
        task = a.api.ordered(f"snapshots/{row['uuid']}/restore/", {"disconnect_writers": True})
        story.load.wait_cut()
        assert a.writable(story.disk_ids) == []
        b.kill()
        a.kill()
    a.up()
    a.api.done(task)
    assert {export: a.checksum(export) for export in story.disk_ids} == before
    story.load.went_back_to(point)
    wait_for(lambda: a.domain(story.domain)["stale_state"] == "unconfirmed", "the word unconfirmed")
    wait_for(lambda: a.writable(story.disk_ids) == sorted(story.disk_ids), "open gates")
    story.load.start(a.open)
    assert story.load.stop() == 0
    story.load.judge_everything(a.open)


if LONG:

    def test_it_finishes_a_replication_after_the_receiver_was_killed(sites: tuple[Site, Site]) -> None:
        """The sender asks again, the receiver says what it has, and the content is the same on both sites."""
        a, b = sites
        story = protect(a, "invoices", system_bytes=8 * MiB, seed=51)
        with a.open(story.system) as guest:
            for at in range(0, 8 * MiB, MiB):
                guest.write(at, os.urandom(MiB))
            guest.flush()
        with standing_still(b, "stargate-store"):
            order = a.api.post(a.path(story.domain, "take-snapshot"), {"sites": [a.peer(b)]}, expect=202)
            a.api.done(order["task"]["uuid"])
            row = a.snapshots(story.domain)[0]
            wait_for(lambda: a.api.rows("replications/", snapshot=row["uuid"], state="RUNNING"), "the transfer")
            b.kill()
        b.up()
        a.replicated(row["uuid"])
        for key in story.disk_ids.values():
            name = f"snapshot:{row['uuid']}:{key}"
            assert a.checksum(name) == b.checksum(name)

    def test_it_finishes_a_migration_although_engine_leader_and_worker_died(sites: tuple[Site, Site]) -> None:
        """The rows' server lives on: what is away for a moment, or a new leader's term, is no answer to the order."""
        a, b = sites
        story = protect(a, "shipping", seed=55)
        story.load.start(a.open)
        with ExitStack() as holds:
            task = hold_in("REPLICATE_1", a, b, story, holds)
            a.kill("stargate-front", "worker", "cerebro")
            story.load.wait_cut()
        a.api.done(task)
        assert the_active_one(a, b, story) is b
