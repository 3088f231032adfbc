# SPDX-License-Identifier: Apache-2.0
"""Celery doors: load nothing, decide nothing, call one service."""

from __future__ import annotations

from typing import Any

from celery.signals import worker_ready
from django.conf import settings

from prism.core.doors import door
from replication.cerebro import takeover
from replication.constants import TRANSFER_QUEUE, TRANSFER_TASK
from replication.services import transfer


@door(TRANSFER_TASK, queue=TRANSFER_QUEUE)
def replicate(replication_uuid: str) -> None:
    """Serve the lane of a replication. Delivered twice or late it finds nothing to do."""
    transfer.run(replication_uuid)


@worker_ready.connect  # type: ignore[untyped-decorator]
def _take_over(**_kwargs: Any) -> None:
    """After a crash of the site its work goes on at once; with several workers silence has to tell who died."""
    if settings.PRISM_ONLY_WORKER:
        takeover.take_over()
