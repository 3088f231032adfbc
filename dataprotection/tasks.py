# SPDX-License-Identifier: Apache-2.0
"""Celery doors: ids in, one service called. Delivered twice or late they find nothing to do.

`term` is the leader's term when the order was queued; the engine refuses what an older leader sent.
"""

from __future__ import annotations

from datetime import datetime

from dataprotection.services import activation, leading, migrate, restore, snapshots
from prism.core.doors import door

WAIT_SECONDS = 1
"""Between two turns of a task that waits for a replication or a peer."""


@door("dataprotection.take_one_time", queue="snapshot")
def take_one_time(task_uuid: str, term: int | None = None) -> None:
    snapshots.run_one_time(task_uuid, term=term)


@door("dataprotection.take_scheduled", queue="snapshot")
def take_scheduled(task_uuid: str, term: int | None = None) -> None:
    snapshots.run_scheduled(task_uuid, term=term)


@door("dataprotection.restore_overwrite", queue="default")
def restore_overwrite(task_uuid: str, term: int | None = None) -> None:
    restore.run_overwrite(task_uuid, term=term)


@door("dataprotection.restore_clone", queue="default")
def restore_clone(task_uuid: str, term: int | None = None) -> None:
    restore.run_clone(task_uuid, term=term)


@door("dataprotection.migrate_domain", queue="default")
def migrate_domain(task_uuid: str, term: int | None = None, baton: int | None = None) -> None:
    again = migrate.run(task_uuid, term=term, baton=baton)
    if again is not None:
        migrate_domain.apply_async((task_uuid, term, again), countdown=WAIT_SECONDS)


@door("dataprotection.activate_domain", queue="default")
def activate_domain(task_uuid: str, term: int | None = None) -> None:
    activation.run_activate(task_uuid, term=term)


@door("dataprotection.deactivate_domain", queue="default")
def deactivate_domain(task_uuid: str, term: int | None = None) -> None:
    activation.run_deactivate(task_uuid, term=term)


@door("dataprotection.expire_due", queue="expire")
def expire_due(now: str, term: int | None = None) -> None:
    leading.run_expiry(datetime.fromisoformat(now), term=term)
