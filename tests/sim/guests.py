# SPDX-License-Identifier: Apache-2.0
"""What guests and operators do to one site, and what the site must hold after it.

Every order goes to the engine and to the model. `states` are the models since the last one known to be durable, in
the order of the log: after a crash the site must hold one of them, whole, over all disks and snapshots at once (D1, D2,
L1).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random

from stargate.errors import DamagedData, ExportDown, LogFull, StargateError
from stargate.units import BLOCK_BYTES, KiB
from tests.engine.harness import Site
from tests.engine.model import Image, Model, merged

BATCH_BYTES = 200 * KiB
"""Data that surely fits one batch of the log, so that all of it survives or nothing."""


class Violation(AssertionError):
    """A law was broken."""


Change = tuple[int, bytes, bool]
"""Offset, data, whether it is a zeroing."""


class Guests:
    """Writers and orders of one site. `sizes` are those of new disks."""

    def __init__(
        self, site: Site, rng: Random, sizes: Sequence[int], *, disks_max: int = 4, points_max: int = 6
    ) -> None:
        self.site = site
        self.rng = rng
        self.sizes = sizes
        self.disks_max = disks_max
        self.points_max = points_max
        self.states = [Model()]
        self.received: dict[str, dict[str, Image]] = {}
        """Snapshots from other sites and what is in them; the front may or may not know them yet."""
        self.candidates: list[int | None] = [None]
        """Whose contents of the model may be the true ones, where blocks that cannot be read hide it."""
        self.unsure = False
        """An order failed half-way: whether it was taken is known after the next start of the front."""
        self.keep_history = False
        self.history: list[Model] = []
        """What the log held before `states`, in its order and from the empty site on, for disks whose bytes change by
        themselves; empty without `keep_history`."""
        self.number = 0

    @property
    def model(self) -> Model:
        return self.states[-1]

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
        except DamagedData:  # what an unaligned write must read before it; nothing was appended
            del self.states[before:]
            raise
        except (StargateError, OSError):
            self.unsure = True
            raise
        assert self.site.front is not None
        after.end = self.site.front.engine.log.appended.position
        if durable:
            self.settle(after)

    def settle(self, held: Model) -> None:
        """The log holds this one of `states` for good: those before it were, and those behind it are lost."""
        order = [*self.history, *self.states]  # history: a rotten end of the log may have passed for a torn one
        at = next(n for n, state in enumerate(order) if state is held)
        if self.keep_history:
            self.history = order[:at]
        self.states = [held]

    def settle_among(self, fits: Sequence[tuple[Model, int | None]]) -> None:
        """The log holds one of these for good, nobody can tell which; the newest first."""
        self.settle(fits[0][0])
        if len(fits) > 1 or fits[0][1] is not None:
            held, numbers = merged(fits)
            self.states, self.candidates = [held], list(numbers)

    def order(self, act: Callable[[Model], object], name: str, *args: object) -> None:
        if self.site.front is not None:
            method = getattr(self.site.front.orders, f"do_{name}")
            self.change(lambda m: (act(m), None)[1], lambda: method(*args), durable=True)

    # -- what there is ------------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128)))

    def some_disk(self) -> str | None:
        return self.rng.choice(sorted(self.model.disks)) if self.model.disks else None

    def points(self) -> dict[str, dict[str, Image]]:
        """Snapshots that an order may name now."""
        known = self.site.front.engine.state.snapshots if self.site.front is not None else {}
        here = {name: members for name, members in self.received.items() if name in known}
        return {**self.model.points, **here}

    def some_point(self) -> tuple[str, str] | None:
        points = [(s, d) for s, members in sorted(self.points().items()) for d in sorted(members)]
        return self.rng.choice(points) if points else None

    # -- data ---------------------------------------------------------------------------------------------------------

    def data(self, length: int) -> bytes:
        """Of this write alone; sometimes what an earlier one wrote, so that chunks repeat."""
        self.number += 1
        number = self.rng.randint(1, self.number) if self.rng.random() < 0.1 else self.number
        word = number.to_bytes(4, "little") + b"\xa5\x5a\xc3\x3c"
        return (word * (length // 8 + 1))[:length]

    def batch(self) -> None:
        """What several writers sent at the same moment: their writes and zeroes go into the log as one batch. Sometimes
        with a FUA or a flush behind it, which makes all durable that was accepted before, whoever wrote it."""
        if self.site.front is None or not self.model.disks:
            return
        disks = self.rng.sample(sorted(self.model.disks), self.rng.randint(1, min(3, len(self.model.disks))))
        changes = [
            (disk, *part)
            for disk in disks
            for _ in range(self.rng.choice((1, 1, 3)))
            for part in _appends(self.one_change(self.model.disks[disk].size))
        ]
        alone = any((offset | len(data)) % BLOCK_BYTES for _, offset, data, _ in changes)
        if alone or sum(len(data) for _, _, data, zero in changes if not zero) > BATCH_BYTES:
            for change in changes:  # more than one batch: every one may be the last that survives
                self._write([change])
        else:
            self._write(changes)
        if self.rng.random() < 0.1:
            self.flush()

    def _write(self, changes: Sequence[tuple[str, int, bytes, bool]]) -> None:
        front = self.site.front
        assert front is not None

        def order() -> None:
            for disk, offset, data, zero in changes:
                export = front.exports.lookup(disk)
                if zero:
                    export.zero(offset, len(data), True)
                else:
                    export.write(offset, memoryview(data))
            front.engine.commit()

        # One batch of the log, or several: a record of the engine's own may come between. Each may be the last.
        before, begun = len(self.states), front.engine.log.appended.position
        for change in changes[:-1]:
            self.states.append(_with(self.model, change))
        wanted = len(self.states) + 1
        try:
            self.change(lambda model: model.disks[changes[-1][0]].write(*changes[-1][1:3]), order)
        finally:
            if len(self.states) < wanted and front.engine.log.appended.position == begun:
                del self.states[before:]  # refused, and nothing of it was taken
            elif len(self.states) < wanted:
                self.unsure = True

    def one_change(self, size: int) -> Change:
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
            self.settle(self.model)

    # -- disks --------------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """New, or a clone of a snapshot."""
        if len(self.model.disks) >= self.disks_max:
            return
        name, size = self.new_id(), self.rng.choice(self.sizes)
        point = self.some_point() if self.rng.random() < 0.6 else None
        source = {"snapshot": point[0], "disk": point[1]} if point else None
        image = self.points()[point[0]][point[1]].copy() if point else Image(size)
        args = (name, 0 if point else size, name, "active", source, None)
        self.order(lambda m: m.disks.update({name: image}), "vdisk_create", *args)

    def delete(self) -> None:
        disk = self.some_disk()
        if disk is not None and self.rng.random() < 0.5:
            self.order(lambda m: m.disks.pop(disk), "vdisk_delete", disk, None)

    def resize(self) -> None:
        disk = self.some_disk()
        if disk is None or self.model.disks[disk].size > 2 * max(self.sizes):
            return
        size = self.model.disks[disk].size + self.rng.choice([1, 3000, 4096, 70_000])
        self.order(lambda m: m.disks.update({disk: m.disks[disk].copy(size)}), "vdisk_resize", disk, size, None)

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> str | None:
        """Of a group of disks at one moment; the new snapshot, None when there was nothing to take."""
        if not self.model.disks or len(self.model.points) >= self.points_max:
            return None
        disks = self.rng.sample(sorted(self.model.disks), self.rng.randint(1, len(self.model.disks)))
        name = self.new_id()
        members = {d: self.model.disks[d].copy() for d in disks}
        self.order(lambda m: m.points.update({name: members}), "snapshot_create", name, disks, {}, "", None)
        return name

    def fence(self) -> None:
        """Role down and marker at once: what was opened before writes nothing any more. Then activated again."""
        if not self.model.disks or len(self.model.points) >= self.points_max or self.site.front is None:
            return
        disks = self.rng.sample(sorted(self.model.disks), self.rng.randint(1, len(self.model.disks)))
        name = self.new_id()
        members = {d: self.model.disks[d].copy() for d in disks}
        export = self.site.front.exports.lookup(disks[0])
        self.order(lambda m: m.points.update({name: members}), "fence", disks, "fence", name, {}, "", None)
        try:
            export.write(0, memoryview(bytes(BLOCK_BYTES)))
            self.site.front.engine.commit()
        except ExportDown:
            pass
        else:
            raise Violation("a write was taken after the fence")
        self.order(lambda m: None, "set_role", disks, "active", "", None)

    def snapshot_delete(self) -> None:
        """Of one taken here."""
        if self.model.points:
            name = self.rng.choice(sorted(self.model.points))
            self.order(lambda m: m.points.pop(name), "snapshot_delete", name, None)

    def restore(self) -> None:
        point, disk = self.some_point(), self.some_disk()
        if point is None or disk is None:
            return
        image = self.points()[point[0]][point[1]]
        self.order(lambda m: m.disks.update({disk: image.copy()}), "restore", point[0], {point[1]: disk}, True, None)

    def internal_seal(self) -> None:
        if self.site.front is not None:
            with suppress(LogFull):
                self.site.front.link._seal_all()


def _with(model: Model, change: tuple[str, int, bytes, bool]) -> Model:
    after = model.copy()
    after.disks[change[0]].write(change[1], change[2])
    return after


def _appends(change: Change) -> list[Change]:
    """The parts of a change that reach the log one by one: a zeroing writes its first, unaligned bytes alone."""
    offset, data, zero = change
    first = -(-offset // BLOCK_BYTES) * BLOCK_BYTES
    if not zero or not offset < first < offset + len(data):
        return [change]
    return [(offset, bytes(first - offset), True), (first, bytes(offset + len(data) - first), True)]
