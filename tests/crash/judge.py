# SPDX-License-Identifier: Apache-2.0
"""Is a crash state right? The engine opens it without help, holds a prefix of what was accepted that contains all that
was durable (D1, D2), shows no half of anything (D5), and goes on."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from stargate.errors import StargateError
from stargate.extents import nodes
from stargate.extents.format import ZERO_HASH, Kind
from stargate.extents.store import ExtentStore
from stargate.units import BLOCK_BYTES
from tests.crash.medium import CrashSite
from tests.crash.remote import Delivery, finish
from tests.crash.workload import open_all
from tests.engine.harness import PowerCut, commit
from tests.engine.model import Found, Image, Model

AGAIN = 0.4
"""How often the power goes once more while the engine goes on."""
CALLS_AGAIN = 90
NEW_DISK = "00000000-0000-4000-8000-00000000000a"


class Violation(BaseException):
    """A law does not hold. No `Exception`, for engine code that is under test must not swallow it."""


def judge(site: CrashSite, allowed: Sequence[Model], delivery: Delivery | None, rng: Random) -> None:
    """Open `site`, which was just crashed, and try it. Raises Violation."""
    try:
        model = _reopen(site, allowed)
        _goes_on(site, model, delivery, rng)
    except (StargateError, OSError, AssertionError, LookupError, ValueError, TypeError) as exc:
        raise Violation(f"{type(exc).__name__}: {exc}") from exc
    finally:
        _stop(site)


def _stop(site: CrashSite) -> None:
    site.disk.cut_at = 0
    site.kill_front()
    site.kill_store()


def _reopen(site: CrashSite, allowed: Sequence[Model]) -> Model:
    """Which of the allowed models it is."""
    site.start()
    open_all(site)
    found = Found.of(site)
    wrong = []
    for model in allowed:
        what = model.unlike(found)
        if not what:
            _check_store(site)
            return model
        wrong.append(what)
    raise AssertionError(f"not one of the {len(allowed)} states that may be left: {wrong[-3:]}")


def _check_store(site: CrashSite) -> None:
    """Presence means a complete subtree of readable bytes."""
    assert site.store is not None
    extents: ExtentStore = site.store.extents
    for digest, location in list(site.index.items()):
        if location.kind == Kind.CHUNK:
            extents.verify(digest)
            continue
        for child in nodes.children(location.kind, extents.read_node(digest)):
            assert child == ZERO_HASH or site.index.get(child) is not None, "a node is present without a child"


def _goes_on(site: CrashSite, model: Model, delivery: Delivery | None, rng: Random) -> None:
    after = [model]
    site.disk.cut_at = rng.randint(1, CALLS_AGAIN) if rng.random() < AGAIN else 0
    try:
        _write(site, after, rng)
        _work(site, after, delivery)
    except PowerCut:
        _stop(site)
        again = site.crashed(rng, None)
        try:
            _reopen(again, after)
        finally:
            _stop(again)
        return
    site.disk.cut_at = 0
    assert (what := after[-1].difference(site)) == "", f"after going on: {what}"
    _check_store(site)


def _write(site: CrashSite, after: list[Model], rng: Random) -> None:
    """One write, durable. `after` becomes what may be found."""
    front, model = site.front, after[0].copy()
    assert front is not None
    if not model.disks:
        model.disks[NEW_DISK] = Image(4 * BLOCK_BYTES)
        after.append(model)
        front.orders.do_vdisk_create(NEW_DISK, 4 * BLOCK_BYTES, NEW_DISK, "active", None, None)
        after[:] = [model]
        model = model.copy()
    name = rng.choice(sorted(model.disks))
    image = model.disks[name]
    block, data = rng.randrange(max(1, image.size // BLOCK_BYTES)), b"after the crash;" * (BLOCK_BYTES // 16)
    data = data[: image.size]
    image.write(block * BLOCK_BYTES, data)
    after.append(model)
    front.exports.lookup(name).write(block * BLOCK_BYTES, memoryview(data))
    commit(front.exports)
    site.sync()
    after[:] = [model]


def _work(site: CrashSite, after: list[Model], delivery: Delivery | None) -> None:
    """Everything drained, folded and swept, and a delivery that the crash cut off resumed."""
    store = site.store
    assert store is not None
    site.settle()
    while site.drain():
        site.settle()
    while site.fold():
        site.settle()
    store.sweeper.sweep()
    site.settle()
    assert not site.restarts, "the front could not apply an op of the store"
    if delivery is not None and delivery.snapshot not in after[-1].points:
        model = after[-1].copy()
        model.points[delivery.snapshot] = {delivery.member.disk: delivery.image}
        after.append(model)
        finish(store, delivery)
        after[:] = [model]
        site.settle()
