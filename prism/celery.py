# SPDX-License-Identifier: Apache-2.0
"""The Celery application: `celery -A prism.celery worker`.

Tasks are idempotent and keyed by a row, so they are acknowledged late: a worker that dies gives its task back.
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "prism.settings")

app = Celery("prism")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
