# SPDX-License-Identifier: Apache-2.0
"""The simulated world: sites, the network between them, time, and everything that a seed decides."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from unittest.mock import patch

from stargate.errors import LogFrozen, StaleToken, StargateError, Unavailable
from stargate.extents.format import StoreFrozen
from stargate.front import link
from stargate.peer import conversation, outbox
from stargate.store import hub
from stargate.units import KiB
from tests.engine.harness import PowerCut
from tests.engine.model import Image
from tests.sim import oracle
from tests.sim.baton import Baton, BatonCondition, Task
from tests.sim.clock import VirtualClock
from tests.sim.guests import Guests, Violation
from tests.sim.mangle import SimNetwork
from tests.sim.site import SimSite, Trace

SIZES = (64 * KiB * 2, 64 * KiB * 2 + 5000, 64 * KiB * 5 + 1)
EXCUSED = (StargateError, OSError)
FATAL = (StaleToken, LogFrozen, StoreFrozen)


@dataclass(slots=True)
class Transfer:
    """A snapshot on its way to another site, over as many attempts as it takes."""

    source: SimSite
    target: SimSite
    snapshot: str
    session: str
    images: dict[str, Image]
    task: Task | None = None

    @property
    def under_way(self) -> bool:
        return self.task is not None and not self.task.done


class World:
    """A run of one seed. `steps` and `faults` count what was done; `rotten`: bytes on disks change by themselves;
    `mendable`: those of logs and catalogs do not.
    """

    def __init__(self, seed: int, *, sites: int = 2, rotten: bool = False, mendable: bool = False) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.trace = Trace()
        self.clock = VirtualClock()
        self.baton = Baton(self.clock, Random(self.rng.random()), pauses=self.rng.choice((0.02, 0.1, 0.4)))
        self.network = SimNetwork(self.clock, Random(self.rng.random()), condition=lambda: BatonCondition(self.baton))
        self.network.rng = Random(self.rng.random())
        self.network.arrived = self._arrived  # type: ignore[method-assign]
        self.rotten = rotten or mendable
        self.mendable = mendable
        self.steps = 0
        self.faults = 0
        self.transfers: dict[tuple[int, str], Transfer] = {}
        self.sites = [SimSite(n, self.rng, self.clock, self.baton, self.network, self.trace) for n in range(sites)]
        for site in self.sites:
            site.guests = Guests(site, self.rng, SIZES, disks_max=3, points_max=4)
            site.guests.keep_history = self.rotten
            site.start()
        for site in self.sites:
            for other in self.sites:
                if other is not site:
                    site.pair(other)

    def _arrived(self, address: str, stream: object) -> None:
        next(site for site in self.sites if site.address == address).serve(stream)  # type: ignore[arg-type]

    # -- doing things -------------------------------------------------------------------------------------------------

    def act(self, name: str, site: SimSite, body: Callable[[World, SimSite], object]) -> None:
        """One step at one site; what fails in it is judged here."""
        self.steps += 1
        self.trace.add(name, site.number)
        try:
            body(self, site)
        except PowerCut:
            pass
        except EXCUSED as exc:
            self.excuse(site, name, exc)
        self.after()

    def step_tasks(self, count: int) -> int:
        """Give the baton to some tasks; how often somebody took it."""
        for done in range(count):
            ready = self.baton.ready()
            if not ready:
                return done
            task = self.rng.choice(ready)
            self.trace.add(task.name)
            self.baton.step(task)
            if task.done:
                self._ended(task)
        return count

    def _ended(self, task: Task) -> None:
        site = task.owner
        assert isinstance(site, SimSite)
        error = task.error
        self.trace.add("end", task.name, repr(error))
        if error is None or isinstance(error, PowerCut):
            pass
        elif isinstance(error, EXCUSED):
            usual = task.name == "sweep" and type(error) is Unavailable
            usual = usual or task.name.startswith("sync")  # a snapshot that is gone, or not folded in time
            if not usual:
                self.excuse(site, task.name, error)
                fatal = isinstance(error, FATAL) or type(error) is Unavailable
                site.store_failed = site.store_failed or fatal
        else:
            raise error
        self._finish_transfer(task)
        self.after()

    def _finish_transfer(self, task: Task) -> None:
        for transfer in list(self.transfers.values()):
            if transfer.task is not task:
                continue
            job = transfer.source.jobs.get(transfer.session)
            if job is None:
                continue
            status = job.status()
            self.trace.add("sync", status.state, status.chunks_sent)
            if status.state == "done":
                oracle.arrived(self, transfer)
            elif (
                status.error is not None
                and status.error["code"] == StargateError.code
                and not self._shaken(transfer.source)
            ):
                raise Violation(f"a replication failed internally: {status.error}")

    def _shaken(self, site: SimSite) -> bool:
        return site.disk.excused or self.rotten

    def excuse(self, site: SimSite, what: str, exc: BaseException) -> None:
        """Errors are allowed where the disk failed, and nowhere else."""
        self.trace.add("failed", what, repr(exc))
        if site.disk.off:
            return
        if not self._shaken(site):
            raise Violation(f"{what} failed at {site.address}: {exc!r}") from exc

    def after(self) -> None:
        """What supervisors do: processes that ended are started again."""
        for one in self.sites:
            if one.disk.off:
                self.crash(one)
        for one in self.sites:
            if not one.lost:
                self._supervise(one)

    def _supervise(self, site: SimSite) -> None:
        front = site.front
        if site.guests.unsure and site.log_rotten:
            self.lose(site)  # damage hides whether the order was taken
            return
        if site.restarts and not self._shaken(site):
            raise Violation(f"the front of {site.address} could not apply an op of the store")
        broken = front is not None and (front.engine.log.frozen is not None or site.guests.unsure)
        if site.restarts or broken or site.store_failed:
            self.restart(site, front=site.restarts > 0 or broken, store=site.store_failed)
        elif site.disk.failed:
            site.disk.failed = False
            if self.rng.random() < 0.3:
                self.restart(site, front=True, store=True)

    # -- process and power --------------------------------------------------------------------------------------------

    def crash(self, site: SimSite) -> None:
        """The power of a site goes now."""
        site.power_cut()
        self._come_up(site, oracle.after_power_cut)

    def restart(self, site: SimSite, *, front: bool, store: bool) -> None:
        """Processes are killed and started again; the page cache stays."""
        unsure = site.guests.unsure
        if front:
            site.kill_front()
        if store:
            site.kill_store()
        if site.front is not None:
            self._come_up(site, oracle.running)  # which makes nothing durable
        else:
            self._come_up(site, oracle.after_power_cut if unsure else oracle.after_kill)

    def _come_up(self, site: SimSite, check: Callable[[World, SimSite], None]) -> None:
        site.calm()
        try:
            if site.store is None:
                site.start_store()
            if site.front is None:
                site.start_front()
            site.connect()
            if site.front.engine.damage is None:
                self._activate(site)
        except PowerCut:
            self.crash(site)
            return
        except EXCUSED as exc:
            if not self.rotten:
                raise Violation(f"{site.address} does not start: {exc!r}") from exc
            self.lose(site)
            return
        damage = None if site.front is None else site.front.engine.damage
        if damage is not None and not self.rotten:
            raise Violation(f"{site.address} starts damaged: {damage.error()!r}")
        try:
            check(self, site)
        except PowerCut:
            self.crash(site)

    def _activate(self, site: SimSite) -> None:
        """The power went between a fence and the activation after it."""
        assert site.front is not None
        down = [d.vdisk for d in site.front.engine.state.vdisks.values() if d.role == "down"]
        if down:
            site.front.orders.do_set_role(down, "active", "", None)

    def lose(self, site: SimSite) -> None:
        """The site found damage and refuses to serve, which is its right."""
        site.kill_front()
        site.kill_store()
        site.disk.release_locks("")
        site.lost = True

    # -- the seed -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        for site in self.sites:
            self.baton.kill(site)
            site.kill_front()
            site.kill_store()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What is random or waits for real time in the engine follows the seed, and its small sizes are met often."""
    rng = Random(seed ^ 0x5EED)
    with (
        patch.object(os, "urandom", rng.randbytes),
        patch.object(secrets, "token_bytes", rng.randbytes),
        patch.object(conversation, "BEAT_SECONDS", 3600.0),
        patch.object(outbox, "FRAME_BYTES", 40 * KiB),
        patch.object(link, "SLICE_ENTRIES", 3),
        patch.object(hub, "CHECKPOINT_OPS", rng.choice((12, 60, 2000))),
    ):
        yield


def other(world: World, site: SimSite) -> SimSite:
    """Another site than this one."""
    return world.rng.choice([s for s in world.sites if s is not site])


__all__ = ["Transfer", "World", "other", "seeded"]
