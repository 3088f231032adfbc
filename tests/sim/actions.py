# SPDX-License-Identifier: Apache-2.0
"""What may happen at a site, with how often: the table that a seed draws from. Metro and the witness add rows here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.sim import mending, oracle
from tests.sim.guests import Guests
from tests.sim.site import SimSite
from tests.sim.world import EXCUSED, Transfer, World, other

QUOTA_BYTES = 1 << 40


class Action(NamedTuple):
    """`weight`: how often, beside the others, before the seed favours some."""

    name: str
    weight: float
    body: Callable[[World, SimSite], object]


def _guest(order: Callable[[Guests], object]) -> Callable[[World, SimSite], object]:
    def body(world: World, site: SimSite) -> None:
        if site.front is not None:
            order(site.guests)

    return body


# -- the engine's own work --------------------------------------------------------------------------------------------


def drain(world: World, site: SimSite) -> None:
    if site.front is None or site.store is None:
        return
    log = site.front.engine.log
    covered, durable = site.front.engine.state.covered.position, log.durable.position
    up_to = world.rng.choice([None, world.rng.randint(min(covered, durable), durable)])
    site.task("drain", lambda: site.drain(up_to))


def fold(world: World, site: SimSite) -> None:
    site.task("fold", site.fold)


def sweep(world: World, site: SimSite) -> None:
    if site.store is not None:
        site.task("sweep", site.store.sweeper.sweep)


def scrub(world: World, site: SimSite) -> None:
    site.task("scrub", lambda: mending.work(site, sound=not world.rotten))


def checkpoint(world: World, site: SimSite) -> None:
    """The catalog's next op is followed by one."""
    if site.store is not None:
        site.store.hub._since_checkpoint = 1 << 20


def deliver(world: World, site: SimSite) -> None:
    """Messages on the line between the halves arrive; an end that cannot take one has the line made anew."""
    try:
        site.deliver(world.rng.randint(1, 6))
    except EXCUSED:
        site.connect()
        raise


def pump(world: World, site: SimSite) -> None:
    site.pump(world.rng.choice([1, 3, 20, 200]))


def tasks(world: World, site: SimSite) -> None:
    world.step_tasks(world.rng.choice([1, 5, 30, 150]))


def time_passes(world: World, site: SimSite) -> None:
    world.clock.sleep(world.rng.choice([0.1, 1.5, 20.0]))


# -- between sites ----------------------------------------------------------------------------------------------------


def replicate(world: World, site: SimSite) -> None:
    """Send a snapshot, or go on with one that did not arrive: fresh, resumed, with and without questions."""
    target = other(world, site)
    if site.store is None or site.front is None or target.store is None or target.lost:
        return
    known = {name for state in target.guests.states for name in state.points}
    names = [name for name in sorted(site.guests.points()) if name not in known]
    state = site.store.hub.state
    rooted = [
        name for name in names if name in state.snapshots and state.snapshot_state(state.snapshots[name]) == "rooted"
    ]
    if names:
        begin(world, site, target, world.rng.choice(rooted or names))


def begin(world: World, site: SimSite, target: SimSite, snapshot: str) -> None:
    key = target.number, snapshot
    transfer = world.transfers.get(key)
    if transfer is None or transfer.source is not site:
        if transfer is not None and transfer.under_way:
            return
        images = site.guests.points()[snapshot]
        transfer = world.transfers[key] = Transfer(site, target, snapshot, site.guests.new_id(), images)
    if transfer.under_way:
        return
    session, rng = transfer.session, world.rng
    _welcome_again(target, snapshot)
    try:
        target.orders.do_grant(session, site.site_id, snapshot, QUOTA_BYTES, rng.choice([60.0, 3600.0]))
    except EXCUSED as exc:
        world.excuse(target, "grant", exc)
        target.store_failed = True
        return
    target.guests.received.setdefault(snapshot, transfer.images)
    there = sorted(site.guests.points().keys() & (target.must | target.guests.model.points.keys()))
    base = rng.choice([None, *there])
    how = {"fingerprinting": rng.random() < 0.75, "compress": rng.random() < 0.5}
    transfer.task = site.task(f"sync {session}", lambda: site.send(target, snapshot, session, base=base, **how))


def _welcome_again(target: SimSite, snapshot: str) -> None:
    """One that was deleted there may be there again from now on."""
    guests = target.guests
    if snapshot in guests.model.gone:
        target.must.discard(snapshot)
        for state in (*guests.states, *guests.history):
            state.gone -= {snapshot}


def delete_received(world: World, site: SimSite) -> None:
    if site.front is None:
        return
    known = site.front.engine.state.snapshots
    busy = {t.snapshot for t in world.transfers.values() if t.target is site and t.under_way}
    names = sorted(site.guests.received.keys() & known.keys() - busy)
    if names:
        name = world.rng.choice(names)
        site.guests.order(lambda m: setattr(m, "gone", m.gone | {name}), "snapshot_delete", name, None)


def check(world: World, site: SimSite) -> None:
    if site.disk.excused:
        return
    oracle.running(world, site)
    oracle.bounded(world, site)


ACTIONS = (
    Action("batch", 34, _guest(Guests.batch)),
    Action("flush", 5, _guest(Guests.flush)),
    Action("create", 5, _guest(Guests.create)),
    Action("delete", 1, _guest(Guests.delete)),
    Action("resize", 2, _guest(Guests.resize)),
    Action("snapshot", 5, _guest(Guests.snapshot)),
    Action("fence", 1, _guest(Guests.fence)),
    Action("snapshot_delete", 2, _guest(Guests.snapshot_delete)),
    Action("restore", 2, _guest(Guests.restore)),
    Action("internal_seal", 1, _guest(Guests.internal_seal)),
    Action("drain", 10, drain),
    Action("fold", 8, fold),
    Action("sweep", 3, sweep),
    Action("checkpoint", 0.5, checkpoint),
    Action("scrub", 3, scrub),
    Action("deliver", 14, deliver),
    Action("pump", 14, pump),
    Action("tasks", 40, tasks),
    Action("time", 2, time_passes),
    Action("replicate", 12, replicate),
    Action("delete_received", 1, delete_received),
    Action("check", 1, check),
)
