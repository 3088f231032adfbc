# SPDX-License-Identifier: Apache-2.0
"""`History`: random orders to a site in memory, with power cuts and killed processes, each also to the model."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from random import Random

from stargate.errors import LogFull
from stargate.units import BLOCK_BYTES, KiB
from tests.engine.harness import Image, Model, PowerCut, Site

SIZES = [KiB * 64 * 3, KiB * 64 * 2 + 5000, BLOCK_BYTES * 150 + 1, 700_000]

SEGMENT_REST_BYTES = 16 * KiB
"""No less of a segment is left for data; batches with more than the rest are split."""


class History:
    """Random orders to a site, each also to the model. `states`: the models since the last durable one, in order."""

    sizes = SIZES

    def __init__(self, seed: int, site: Site | None = None) -> None:
        self.rng = Random(seed)
        self.states = [Model()]
        self.number = 0
        self.site = site or Site(self.rng)
        self.site.start()

    @property
    def model(self) -> Model:
        return self.states[-1]

    # -- what guests and operators do ---------------------------------------------------------------------------------

    def data(self, length: int) -> bytes:
        self.number += 1
        word = self.number.to_bytes(4, "little") + b"\xa5\x5a\xc3\x3c"
        return (word * (length // 8 + 1))[:length]

    def change(self, act: Callable[[Model], None], order: Callable[[], object], *, durable: bool = False) -> None:
        """Give an order; the model follows. When the power goes meanwhile, either may be true afterwards."""
        before = len(self.states)
        after = self.model.copy()
        act(after)
        self.states.append(after)
        try:
            order()
        except LogFull:
            del self.states[before:]
            return
        if durable:
            self.states = [after]

    def some_disk(self) -> str | None:
        return self.rng.choice(sorted(self.model.disks)) if self.model.disks else None

    def some_point(self) -> tuple[str, str] | None:
        points = [(s, d) for s, members in sorted(self.model.points.items()) for d in sorted(members)]
        return self.rng.choice(points) if points else None

    def batch(self) -> None:
        """Writes and zeroes of one NBD batch: all of them in one append, or in several when some are unaligned."""
        disk = self.some_disk()
        if disk is None or self.site.front is None:
            return
        export = self.site.front.exports.lookup(disk)
        commit = self.site.front.engine.commit
        size = self.model.disks[disk].size
        changes = [self.one_change(size) for _ in range(self.rng.choice([1, 1, 2, 5]))]

        def act(model: Model) -> None:
            for offset, data, _ in changes:
                model.disks[disk].write(offset, data)

        def order() -> None:
            for offset, data, zero in changes:
                if zero:
                    export.zero(offset, len(data), True)
                else:
                    export.write(offset, memoryview(data))
            commit()

        if any((o | len(d)) % BLOCK_BYTES for o, d, _ in changes):
            for change in changes:  # every one may be the last that survives
                changes = [change]
                self.in_stages(disk, _edges(change), act, order)
            return
        split = sum(len(data) for _, data, zero in changes if not zero) > self.site.segment_bytes - SEGMENT_REST_BYTES
        self.in_stages(disk, [(o, d) for o, d, _ in changes[:-1]] if split else [], act, order)

    def in_stages(
        self, disk: str, parts: list[tuple[int, bytes]], act: Callable[[Model], None], order: Callable[[], object]
    ) -> None:
        """An order that takes several log batches: after a crash the first of its `parts` may be there alone."""
        before = len(self.states)
        for part in parts:
            self.change(lambda m, part=part: m.disks[disk].write(*part), lambda: None)  # type: ignore[misc]
        self.change(act, order)
        if len(self.states) == before + len(parts):  # refused: the log is full
            del self.states[before:]

    def one_change(self, size: int) -> tuple[int, bytes, bool]:
        rng = self.rng
        offset = rng.randrange(size)
        length = rng.choice([BLOCK_BYTES, BLOCK_BYTES, 3 * BLOCK_BYTES, 64 * KiB, 80 * KiB, 1, 5000])
        zero = rng.random() < 0.25
        if zero:
            length = rng.choice([length, 300 * KiB, size])
        if rng.random() < 0.8:
            offset -= offset % rng.choice([BLOCK_BYTES, 64 * KiB])
            length = max(BLOCK_BYTES, length - length % BLOCK_BYTES)
        length = min(length, size - offset)
        return offset, bytes(length) if zero else self.data(length), zero

    def flush(self) -> None:
        if self.site.front is not None:
            self.site.sync()
            self.states = self.states[-1:]

    def create(self) -> None:
        if len(self.model.disks) >= 4:
            return
        name, size = str(uuid.UUID(int=self.rng.getrandbits(128))), self.rng.choice(self.sizes)
        point = self.some_point() if self.rng.random() < 0.6 else None
        source = {"snapshot": point[0], "disk": point[1]} if point else None
        image = self.model.points[point[0]][point[1]].copy() if point else Image(size)
        args = (name, 0 if point else size, name, "active", source, None)
        self.order(lambda m: m.disks.update({name: image}), "vdisk_create", *args)

    def order(self, act: Callable[[Model], object], name: str, *args: object) -> None:
        if self.site.front is not None:
            method = getattr(self.site.front.orders, f"do_{name}")
            self.change(lambda m: (act(m), None)[1], lambda: method(*args), durable=True)

    def delete(self) -> None:
        disk = self.some_disk()
        if disk is not None and self.rng.random() < 0.5:
            self.order(lambda m: m.disks.pop(disk), "vdisk_delete", disk, None)

    def resize(self) -> None:
        disk = self.some_disk()
        if disk is None or self.model.disks[disk].size > 1_500_000:
            return
        size = self.model.disks[disk].size + self.rng.choice([1, 3000, 4096, 70_000])
        self.order(lambda m: m.disks.update({disk: m.disks[disk].copy(size)}), "vdisk_resize", disk, size, None)

    def snapshot(self) -> None:
        if not self.model.disks or len(self.model.points) >= 6:
            return
        disks = self.rng.sample(sorted(self.model.disks), self.rng.randint(1, len(self.model.disks)))
        name = str(uuid.UUID(int=self.rng.getrandbits(128)))
        reason = "fence" if self.rng.random() < 0.2 else ""
        members = {d: self.model.disks[d].copy() for d in disks}
        act = lambda m: m.points.update({name: members})  # noqa: E731
        if reason:
            self.order(act, "fence", disks, reason, name, {}, "", None)
            self.order(lambda m: None, "set_role", disks, "active", "", None)
        else:
            self.order(act, "snapshot_create", name, disks, {}, "", None)

    def snapshot_delete(self) -> None:
        if self.model.points:
            name = self.rng.choice(sorted(self.model.points))
            self.order(lambda m: m.points.pop(name), "snapshot_delete", name, None)

    def restore(self) -> None:
        point, disk = self.some_point(), self.some_disk()
        if point is None or disk is None:
            return
        image = self.model.points[point[0]][point[1]]
        self.order(lambda m: m.disks.update({disk: image.copy()}), "restore", point[0], {point[1]: disk}, True, None)

    def internal_seal(self) -> None:
        if self.site.front is not None:
            with suppress(LogFull):
                self.site.front.link._seal_all()

    # -- what the engine does -----------------------------------------------------------------------------------------

    def drain(self) -> None:
        if self.site.front is None:
            return
        durable = self.site.front.engine.log.durable.position
        covered = self.site.front.engine.state.covered.position
        self.site.drain(self.rng.choice([None, self.rng.randint(min(covered, durable), durable)]))

    def fold(self) -> None:
        self.site.fold()

    def sweep(self) -> None:
        site = self.site
        if site.front is None or site.store is None:
            return
        if self.rng.random() < 0.5:
            site.settle()
        if site.front.engine.state.n == site.store.hub.state.n and not site.front.line.messages:
            site.deliver(len(site.store.line.messages))
            site.store.sweeper.sweep()

    def deliver(self) -> None:
        self.site.deliver(self.rng.randint(1, 3))

    def pump(self) -> None:
        self.site.pump(self.rng.choice([1, 2, 5, 50]))

    # -- faults -------------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """kill -9 of one process, or of both: nothing accepted is lost."""
        site = self.site
        both = self.rng.random() < 0.3
        if both or self.rng.random() < 0.5:
            site.kill_front()
        if both or site.front is not None:
            site.kill_store()
        if self.rng.random() < 0.3 and site.front is not None:
            for _ in range(self.rng.randint(1, 4)):
                self.batch()  # the store is away
        if site.store is None:
            site.start_store()
        if site.front is None:
            site.start_front()
        site.connect()
        self.check()

    def power_cut(self) -> None:
        """At this moment, or in the midst of one of the next steps."""
        if self.rng.random() < 0.7:
            self.site.disk.cut_at = self.rng.choice([1, 2, 3, 5, 8, 13, 30, 80])
            try:
                for _ in range(4):
                    self.rng.choice([self.drain, self.fold, self.batch, self.flush, self.sweep, self.snapshot])()
            except PowerCut:
                pass
        self.recover()

    def recover(self) -> None:
        self.site.power_cut()
        self.site.start()
        assert self.site.front is not None
        down = [d.vdisk for d in self.site.front.engine.state.vdisks.values() if d.role == "down"]
        if down:  # the power went between fence and activation
            self.site.front.orders.do_set_role(down, "active", "", None)
        found = [state.difference(self.site) for state in self.states]
        assert "" in found, f"no prefix of what was accepted: {found}"
        self.states = [self.states[found.index("")]]

    def check(self) -> None:
        assert not self.site.restarts, "the front could not apply an op of the store"
        if self.site.front is not None:
            what = self.model.difference(self.site)
            assert what == "", what

    STEPS = (
        (batch, 30), (flush, 5), (create, 4), (delete, 1), (resize, 2), (snapshot, 5), (snapshot_delete, 2),
        (restore, 2), (internal_seal, 1), (drain, 12), (fold, 8), (sweep, 3), (deliver, 12), (pump, 14), (kill, 2),
        (power_cut, 2), (check, 3),
    )  # fmt: skip

    def run(self, steps: int) -> None:
        self.create()
        names, weights = [s for s, _ in self.STEPS], [w for _, w in self.STEPS]
        for step in self.rng.choices(names, weights, k=steps):
            step(self)
        self.settle()

    def settle(self) -> None:
        """Everything drained, folded, swept: still the same."""
        site = self.site
        self.flush()
        site.settle()
        while site.drain():
            site.settle()
        while site.fold():
            pass
        site.settle()
        self.check()
        self.sweep()
        self.check()
        self.recover()


def _edges(change: tuple[int, bytes, bool]) -> list[tuple[int, bytes]]:
    """What an unaligned zeroing writes before the whole blocks: the parts of blocks at its ends, as own log records."""
    offset, data, zero = change
    end = offset + len(data)
    first, last = -(-offset // BLOCK_BYTES) * BLOCK_BYTES, end // BLOCK_BYTES * BLOCK_BYTES
    if not zero or first >= last:
        return []
    return [(start, bytes(stop - start)) for start, stop in ((offset, first), (last, end)) if start < stop]
