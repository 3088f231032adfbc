# SPDX-License-Identifier: Apache-2.0
"""The fold begins as soon as a drain sealed something: it does not sleep over it, whenever the drain comes."""

from __future__ import annotations

import threading
import uuid
from random import Random

import pytest

from stargate.store import worker as worker_module
from stargate.units import BLOCK_BYTES, KiB
from tests.engine.harness import Site, commit

FOR_EVER = 3600.0
"""The idle loop's own pause in these tests: who is not woken does not come."""
PATIENCE = 60.0


def _with_something_to_fold() -> Site:
    """A written disk and a snapshot of it, all of it in the log and none drained."""
    site = Site(Random(1))
    site.start()
    assert site.front is not None
    name = str(uuid.UUID(int=1))
    site.front.orders.do_vdisk_create(name, 64 * KiB, name, "active", None, None)
    site.front.exports.lookup(name).write(0, memoryview(b"x" * BLOCK_BYTES))
    commit(site.front.exports)
    site.front.orders.do_snapshot_create(str(uuid.UUID(int=2)), [name], None, "test", None)
    site.sync()
    return site


@pytest.mark.parametrize("when", ["behind its turn", "as its turn ends"])
def test_a_drain_that_sealed_something_wakes_the_fold(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    monkeypatch.setattr(worker_module, "IDLE_DRAIN_SECONDS", FOR_EVER)
    site = _with_something_to_fold()
    assert site.store is not None
    worker = site.store.worker
    idle, folded = threading.Event(), threading.Event()

    def turn() -> bool:
        worked = worker._fold_turn()
        if worked:
            folded.set()
        elif not idle.is_set():
            if when == "as its turn ends":
                assert site.drain()
            idle.set()
        return worked

    fold = threading.Thread(target=worker._loop, args=(turn,), daemon=True)
    fold.start()
    assert idle.wait(PATIENCE)
    if when == "behind its turn":
        assert site.drain()
    assert folded.wait(PATIENCE)
    with worker._wake:
        worker._stopping = True
        worker._tell()
    fold.join(PATIENCE)
    assert not fold.is_alive()
