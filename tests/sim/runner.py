# SPDX-License-Identifier: Apache-2.0
"""One seed from its first step to its end: draw, act, then bring everything to rest and look once more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from random import Random

from stargate.errors import StargateError
from tests.sim import mending, oracle
from tests.sim.actions import ACTIONS, Action, begin
from tests.sim.faults import FAULTS, MENDABLE, ROT
from tests.sim.guests import Violation
from tests.sim.site import SimSite
from tests.sim.world import Transfer, World, seeded

STEPS = 150
ROTTEN_EVERY = 5
"""Every so many seeds bytes on disk change by themselves; of others as many, those that a peer may still have."""

REST_TURNS = 400


@dataclass(frozen=True, slots=True)
class Result:
    """`error`: what was violated; empty when nothing was. `trace`: equal in every run of the seed."""

    seed: int
    steps: int
    faults: int
    trace: str
    error: str = ""


def run(seed: int, *, steps: int = STEPS, watch: Callable[[str], object] = str) -> Result:
    """Never raises for what the engine does. `watch` is given what happens, in words."""
    logging.disable(logging.CRITICAL)
    with seeded(seed):
        world = World(seed, rotten=seed % ROTTEN_EVERY == ROTTEN_EVERY - 1, mendable=seed % ROTTEN_EVERY == 1)
        world.trace.watch = watch
        error = ""
        try:
            story(world, steps)
        except Exception as exc:
            error = f"step {world.steps}: {type(exc).__name__}: {exc}"
        world.trace.watch = str
        for site in world.sites:
            world.trace.add(sorted(site.disk.snapshot().items()))
        with suppress(Exception):
            world.close()
        return Result(seed, world.steps, world.faults, world.trace.digest(), error)


def story(world: World, steps: int) -> None:
    rows, weights = favour(world.rng, MENDABLE if world.mendable else ROT if world.rotten else ())
    faults = {row.name for row in (*FAULTS, *ROT, *MENDABLE)}
    for site in world.sites:
        world.act("create", site, ACTIONS[2].body)
    if world.mendable:
        _share(world)
    for row in world.rng.choices(rows, weights, k=steps):
        site = world.rng.choice(world.sites)
        if site.lost:
            continue
        world.faults += row.name in faults
        world.act(row.name, site, row.body)
    rest(world)


def favour(rng: Random, rot: Sequence[Action]) -> tuple[list[Action], list[float]]:
    """Each seed prefers some actions, and meets some faults only: rare things meet when others do not come between."""
    rows = [*ACTIONS]
    weights = [row.weight * rng.choice((0.3, 1, 1, 3)) for row in rows]
    level = rng.choice((0.3, 1, 2))
    for row in (*FAULTS, *rot):
        if rng.random() < 0.5:
            rows.append(row)
            weights.append(row.weight * level)
    return rows, weights


# -- the end ----------------------------------------------------------------------------------------------------------


def rest(world: World) -> None:
    """No more faults: what was begun ends, all is drained, folded, sent and swept, and nothing differs."""
    for site in world.sites:
        site.disk.cut_at = 0
        if not site.lost and (site.disk.excused or site.guests.unsure or site.store is None or site.front is None):
            world.restart(site, front=True, store=True)
    world.network._spoils.clear()
    world.network.mangle_next = None
    for site in world.sites:
        site.lies = 0
    settle(world)
    for site in world.sites:
        if not site.lost:
            oracle.running(world, site)
    if not world.rotten:
        _send_all(world)
        _sweep_all(world)
    elif world.mendable:
        _mend_all(world)
    for site in world.sites:
        if not site.lost:
            site.guests.flush() if not world.rotten else None
            world.crash(site)


def settle(world: World) -> None:
    """Until no task, no line and no log has anything left to do."""
    for _ in range(REST_TURNS):
        worked = world.step_tasks(1000) > 0
        for site in world.sites:
            worked = world_turn(world, site) or worked
        if worked:
            continue
        if not world.baton.tasks:
            return
        world.clock.sleep(5.0)  # somebody waits for time
    raise Violation(f"no rest: {[task.name for task in world.baton.tasks]}")


def world_turn(world: World, site: SimSite) -> bool:
    """One round of a site's own work; whether there was any."""
    if site.lost or site.front is None or site.store is None:
        return False
    before = site.store.hub.state.n
    busy = bool(site.front.calls or site.front.line.messages or site.store.line.messages)
    with suppress(StargateError) if world.rotten else nullcontext():
        site.sync()
        site.settle()
    if site.front is None or site.store is None or site.restarts:
        return False
    works = not world.rotten or world.mendable
    if works and not site.busy("drain") and _undrained(site):
        site.task("drain", site.drain)
        busy = True
    if works and _foldable(site) and not site.busy("fold"):
        site.task("fold", site.fold)
        busy = True
    return busy or site.store.hub.state.n != before


def _foldable(site: SimSite) -> bool:
    """Whether an epoch can be folded; damage may keep some from it."""
    assert site.store is not None
    poisoned = site.store.worker.poisoned()
    return any(epoch.epoch not in poisoned for epoch in site.store.hub.state.foldable())


def _undrained(site: SimSite) -> bool:
    """Whether a batch waits. (A durable position alone may be the step into a fresh segment.)"""
    assert site.front is not None
    assert site.store is not None
    worker, durable = site.store.worker, site.front.engine.log.durable.position
    if worker._reader is None:
        return durable > 0
    covered = worker._covered()
    return durable > covered.position and next(worker._reader.batches(covered, durable), None) is not None


def _send_all(world: World) -> None:
    """With sound links and disks every transfer that was begun arrives, unless its snapshot is gone."""
    for transfer in list(world.transfers.values()):
        if _wanted(transfer):
            begin(world, transfer.source, transfer.target, transfer.snapshot)
            settle(world)
            if transfer.snapshot not in transfer.target.must:
                job = transfer.source.jobs.get(transfer.session)
                raise Violation(f"a snapshot does not arrive: {job.status().error if job else 'no job'}")
    for site in world.sites:
        oracle.running(world, site)
        assert site.front is not None
        if missing := site.must - site.front.engine.state.snapshots.keys() - site.guests.model.gone:
            raise Violation(f"{site.address} does not show {sorted(missing)}")


def _share(world: World) -> None:
    """Each site has written something that the other holds a copy of."""
    for site in world.sites:
        if site.lost or site.front is None:
            continue
        for order in (site.guests.batch, site.guests.batch, site.guests.snapshot):
            world.act("share", site, lambda _world, _site, order=order: order())
    settle(world)
    one, other = world.sites
    for source, target in ((one, other), (other, one)):
        if source.lost or target.lost or source.front is None or target.front is None:
            continue
        known = source.front.engine.state.snapshots
        for name in sorted(source.guests.points().keys() & known.keys() - target.front.engine.state.snapshots.keys()):
            begin(world, source, target, name)
            settle(world)


def _mend_all(world: World) -> None:
    """Passes of the scrub bring back all that the other site has, and the sites still give what was written."""
    _share(world)
    for _ in range(world.rng.randrange(6)):
        site = world.rng.choice(world.sites)
        if not site.lost:
            world.act("rot", site, world.rng.choice(MENDABLE).body)
    for site in world.sites:
        if not site.lost:
            oracle.running(world, site)
    lies = sum(site.lies for site in world.sites)  # each may spoil a pass (seed 2311270626)
    for _ in range(mending.ROUNDS + lies):
        for site in world.sites:
            site.task("scrub", partial(mending.work, site, whole=True))
            settle(world)
            if not site.lost:
                oracle.running(world, site)
    one, other = world.sites
    if not one.lost and not other.lost and not (one.lies or other.lies):
        mending.healed(one, other)


def _wanted(transfer: Transfer) -> bool:
    points = transfer.source.guests.points()
    target = transfer.target
    known = target.guests.model.points.keys() | target.guests.model.gone | target.must
    return transfer.snapshot in points and transfer.snapshot not in known


def _sweep_all(world: World) -> None:
    """Expired grants end; then two sweeps leave nothing that is not needed: the second finds no fresh stamps."""
    world.clock.jump(10**9)
    for site in world.sites:
        assert site.store is not None
        for _ in range(2):
            site.task("sweep", site.store.sweeper.sweep)
            settle(world)
        oracle.complete(site)
        oracle.swept(site)
        oracle.running(world, site)
