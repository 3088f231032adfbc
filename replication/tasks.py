# SPDX-License-Identifier: Apache-2.0
"""Celery doors: load nothing, decide nothing, call one service."""

from __future__ import annotations

from celery import shared_task

from replication.constants import TRANSFER_QUEUE, TRANSFER_TASK
from replication.services import transfer


@shared_task(name=TRANSFER_TASK, queue=TRANSFER_QUEUE)
def replicate(replication_uuid: str) -> None:
    """Serve the lane of a replication. Delivered twice or late it finds nothing to do."""
    transfer.run(replication_uuid)
