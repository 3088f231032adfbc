# SPDX-License-Identifier: Apache-2.0
"""A replication is done when the sender recorded where the snapshot is, not before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

from stargate.errors import NoSpace
from stargate.peer.sync import SyncJob, SyncStatus
from stargate.store.outgoing import _Job


class _Arrives:
    """A sync over which the target said at once that it has all."""

    def run(self) -> SyncStatus:
        return self.status()

    def status(self) -> SyncStatus:
        return SyncStatus("published", "done", 1, 1, 1, 1, 1, 0, None)


def job(arrived: Callable[[], None]) -> _Job:
    return _Job("session", lambda _cancelled: cast(SyncJob, _Arrives()), arrived)


def ended(found: _Job) -> dict[str, Any]:
    found._thread.join(30)
    assert not found.running
    return found.status()


def test_it_is_running_until_the_copy_is_recorded() -> None:
    begun, may = threading.Event(), threading.Event()

    def arrived() -> None:
        begun.set()
        assert may.wait(30)

    found = job(arrived)
    assert begun.wait(30)
    assert found.status()["state"] == "running"
    may.set()
    assert ended(found)["state"] == "done"


def test_it_is_failed_with_the_reason_when_the_copy_cannot_be_recorded() -> None:
    def arrived() -> None:
        raise NoSpace("the storage is full")

    status = ended(job(arrived))
    assert (status["state"], status["error"]) == ("failed", {"code": "no_space", "message": "the storage is full"})


def test_it_is_failed_when_recording_breaks_in_a_way_nobody_foresaw() -> None:
    def arrived() -> None:
        raise RuntimeError

    status = ended(job(arrived))
    assert (status["state"], status["error"]["code"]) == ("failed", "internal")
