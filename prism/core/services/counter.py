# SPDX-License-Identifier: Apache-2.0
"""Numbers for metadata objects."""

from __future__ import annotations

from django.db import transaction

from prism.core.models import LocalIdCounter


def next_local_id() -> int:
    """One counter for all metadata objects of the site; never gives a number twice (a rolled-back one may repeat)."""
    with transaction.atomic():
        LocalIdCounter.objects.get_or_create(pk=1)
        row = LocalIdCounter.objects.select_for_update().get(pk=1)
        row.last_id += 1
        row.save(update_fields=["last_id"])
        return row.last_id
