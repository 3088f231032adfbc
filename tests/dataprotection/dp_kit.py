# SPDX-License-Identifier: Apache-2.0
"""Helpers of the data protection tests."""

from __future__ import annotations

from typing import Any

from dataprotection.models import ProtectionDomain, Snapshot, VirtualDisk
from dataprotection.services import snapshots
from prism.core.actor import Actor
from prism.core.models import Task
from stargate.nbd.client import NbdClient
from tests.support.engine_site import EngineSite

MiB = 1 << 20
ACTOR = Actor.cli("test")


class Queue:
    """What was handed to Celery, in order. `run` does what the workers would."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, tuple[Any, ...]]] = []

    def run(self) -> None:
        while self.sent:
            door, arguments = self.sent.pop(0)
            door(*arguments)


def take(domain: ProtectionDomain, queue: Queue, **options: Any) -> Snapshot:
    """Order a snapshot and let the worker take it."""
    order = snapshots.take(domain, actor=ACTOR, **options)
    queue.run()
    order.refresh_from_db()
    assert order.task is not None
    order.task.refresh_from_db()
    assert order.task.state == "succeeded", order.task.error
    return Snapshot.objects.get(one_time_uuid=order.uuid)


def nbd(engine: EngineSite, disk: VirtualDisk) -> NbdClient:
    return NbdClient.unix(engine.engine.nbd_socket, disk.export_name)


def write(engine: EngineSite, disk: VirtualDisk, text: bytes) -> None:
    """Put `text` at the beginning of the disk, durably."""
    with nbd(engine, disk) as client:
        client.write(0, text.ljust(4096, b"."), fua=True)


def read(engine: EngineSite, disk: VirtualDisk) -> bytes:
    with nbd(engine, disk) as client:
        return client.read(0, 4096).rstrip(b".")


def last_task() -> Task:
    task = Task.objects.first()
    assert task is not None
    return task
