# SPDX-License-Identifier: Apache-2.0
"""The recorded workload: `History`'s orders and background steps, and with them checkpoints, sweeps beside open
deliveries, snapshots from another site, segments made ready."""

from __future__ import annotations

from contextlib import suppress

from stargate.errors import Unavailable
from stargate.units import BLOCK_BYTES, KiB
from tests.crash.medium import INDEX_LOST, CrashSite
from tests.crash.remote import Delivery, Reception, Remote
from tests.engine.harness import PowerCut
from tests.engine.history import History
from tests.engine.model import Model

DELIVERIES_MAX = 4


class Workload(History):
    """`promise` changes whenever more became durable."""

    sizes = (KiB * 64 * 2, KiB * 64 + 5000, BLOCK_BYTES * 40 + 1)
    site: CrashSite
    step = "start"
    delivery: Delivery | None = None
    """On its way: not to be seen before it is complete."""
    delivered = 0
    _reception: Reception | None = None
    _first: Model | None = None
    promise = 0

    def __init__(self, seed: int, site: CrashSite) -> None:
        super().__init__(seed, site)
        self.remote = Remote(self.rng)

    def allowed(self) -> list[Model]:
        """What may be found after a power cut now; `promise` changes when an earlier possibility is ruled out."""
        if self.states[0] is not self._first:
            self._first = self.states[0]
            self.promise += 1
        return self.states

    def data(self, length: int) -> bytes:
        """No two blocks are equal."""
        self.number += 1
        blocks = range(length // BLOCK_BYTES + 1)
        return b"".join((b"%7d.%-7d;" % (self.number, block)) * (BLOCK_BYTES // 16) for block in blocks)[:length]

    # -- steps that `History` has not ---------------------------------------------------------------------------------

    def flush(self) -> None:
        """As the NBD server: it asks for an fdatasync only when the log does not say that all is durable."""
        front = self.site.front
        if front is not None:
            if front.exports.durable() < front.engine.log.appended.position:
                self.site.sync()
            self.states = self.states[-1:]

    def checkpoint(self) -> None:
        if self.site.store is not None:
            self.site.store.hub.checkpoint()

    def prepare(self) -> None:
        """What the front's helper thread does: the next segment's slot."""
        if self.site.front is not None:
            self.site.front.engine.log.prepare()

    def sweep(self) -> None:
        """Also with a front that has not caught up, where it must refuse."""
        site = self.site
        if site.front is None or site.store is None:
            return
        if self.rng.random() < 0.7:
            site.settle()
            site.deliver(len(site.store.line.messages))
        with suppress(Unavailable):
            site.store.sweeper.sweep()
        if self.rng.random() < 0.5:
            site.settle()

    def receive(self) -> None:
        """Some of a snapshot from another site; in the end it is published."""
        store = self.site.store
        if store is None:
            return
        if self.delivery is None:
            if self.delivered < DELIVERIES_MAX:
                self.delivery = self.remote.snapshot()
                self.delivered += 1
                self.delivery.allow(store)
            return
        if self._reception is None:
            if self.delivery.session not in store.hub.state.grants:
                self.delivery.allow(store)  # a kill came between, and the order is repeated
            self._reception = Reception(store, self.delivery)
        if not self._reception.complete:
            self._reception.step(self.rng.randint(1, 4))
            if self.rng.random() < 0.4:
                store.extents.flush()
        else:
            self._publish(self._reception, self.delivery)

    def _publish(self, reception: Reception, delivery: Delivery) -> None:
        """It has no place in the order of the log: until it is durable, every possibility is one with and without."""
        before, after = self.states, []
        for state in before:
            more = state.copy()
            more.points[delivery.snapshot] = {delivery.member.disk: delivery.image}
            after.append(more)
        self.states = before + after
        reception.publish()
        self.states, self.delivery = after, None
        self._hang_up()
        self.site.settle()  # only then orders may name it

    def _hang_up(self) -> None:
        if self._reception is not None:
            self._reception.close()
            self._reception = None

    def hang_up(self) -> None:
        """The connection ends; a later one resumes."""
        self._hang_up()

    def kill(self) -> None:
        self._hang_up()
        super().kill()

    def kill_midway(self) -> None:
        """kill -9 of both in the midst of something: what they wrote is in the page cache, what they knew is gone."""
        site = self.site
        site.disk.cut_at = self.rng.choice([1, 2, 3, 5, 8, 13, 30])
        try:
            for step in self.rng.choices(
                [self.drain, self.fold, self.batch, self.flush, self.sweep, self.receive], k=3
            ):
                step()
        except PowerCut:
            pass
        site.disk.cut_at = 0
        self._hang_up()
        site.kill_front()
        site.kill_store()
        if self.rng.random() < INDEX_LOST:
            site.index.clear()
        site.start()
        self._go_on_from(self.recognised())

    def _go_on_from(self, model: Model) -> None:
        """The engine holds `model`, which need not be durable yet."""
        self.states = self.states[: self.states.index(model) + 1]
        if self.delivery is not None and self.delivery.snapshot in self.model.points:
            self.delivery = None

    def batch(self) -> None:
        """Guests are never refused here: what a refused batch leaves is another test's matter."""
        site = self.site
        if site.front is not None and site.front.engine.log.used_bytes > site.cap_bytes // 2:
            site.sync()
            self.flush()
            while site.drain():
                site.settle()
        super().batch()

    # -- the power goes, and the history goes on ----------------------------------------------------------------------

    def power_cut(self) -> None:
        """At this moment; what follows runs on what is left."""
        self._hang_up()
        self.site.power_cut()
        self.site.start()
        self.states = [self.recognised()]
        self._go_on_from(self.model)

    def recognised(self) -> Model:
        """Which of the allowed models the site holds. Raises AssertionError: none."""
        down = open_all(self.site)
        found = [state.difference(self.site) for state in self.states]
        assert "" in found, f"no prefix of what was accepted ({down} disks were down): {found}"
        return self.states[found.index("")]

    STEPS = (
        (History.create, 4), (batch, 24), (flush, 6), (History.snapshot, 6), (History.restore, 3),
        (History.resize, 2), (History.delete, 2), (History.snapshot_delete, 3), (History.internal_seal, 1),
        (History.drain, 12), (History.fold, 8), (sweep, 5), (checkpoint, 3), (receive, 14), (hang_up, 1), (prepare, 3),
        (History.deliver, 10), (History.pump, 12), (kill, 2), (kill_midway, 4), (power_cut, 2), (History.check, 2),
    )  # fmt: skip


def open_all(site: CrashSite) -> int:
    """The power may have gone between a fence and the activation; how many disks were down."""
    assert site.front is not None
    down = [d.vdisk for d in site.front.engine.state.vdisks.values() if d.role == "down"]
    if down:
        site.front.orders.do_set_role(down, "active", "", None)
    return len(down)
