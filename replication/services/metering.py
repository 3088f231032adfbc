# SPDX-License-Identifier: Apache-2.0
"""What a transfer puts on the wire, minute by minute, for the charts of its remote site and its protection domain."""

from __future__ import annotations

import time

from django.utils import timezone

from prism.core.services import measurements
from replication.models import Replication

FLUSH_SECONDS = 5.0


class Meter:
    """Of one run. `row` tells what earlier runs of the same job have counted already."""

    def __init__(self, row: Replication) -> None:
        self._subjects = (row.site.uuid, row.domain_uuid)
        self._before = row.wire_bytes
        self._held = 0
        self._flushed_at = time.monotonic()

    def saw(self, wire_bytes: int) -> None:
        """The engine's count now; less than before means that a new job counts from 0."""
        self._held += wire_bytes - self._before if wire_bytes >= self._before else wire_bytes
        self._before = wire_bytes
        if time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Into the present minute."""
        self._flushed_at = time.monotonic()
        if self._held:
            for subject in self._subjects:
                measurements.add(measurements.SENT, subject, timezone.now(), self._held)
        self._held = 0
