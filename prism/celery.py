# SPDX-License-Identifier: Apache-2.0
"""The Celery application: `celery -A prism.celery worker`.

Tasks are idempotent and keyed by a row, so they are acknowledged late: a worker that dies gives its task back.
"""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "prism.settings")

WORKER_READY_FILE = "worker.ready"

app = Celery("prism")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect  # type: ignore[untyped-decorator]
def _say_ready(**kwargs: Any) -> None:
    """Tell the runtime that tasks are being consumed; without a port there is nothing else it could ask."""
    if settings.PRISM_RUN_DIR:
        (settings.PRISM_RUN_DIR / WORKER_READY_FILE).touch()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _say_gone(**kwargs: Any) -> None:
    if settings.PRISM_RUN_DIR:
        (settings.PRISM_RUN_DIR / WORKER_READY_FILE).unlink(missing_ok=True)
