# SPDX-License-Identifier: Apache-2.0
"""Who leads this site's Cerebro."""

from __future__ import annotations

from django.db import models


class LeaderState(models.Model):
    """One row (pk 1). The advisory lock decides who leads; this row says it to people and keeps the term."""

    term = models.BigIntegerField(default=0)  # only ever grows; the engine refuses effects of an older one
    holder = models.CharField(max_length=200, blank=True)  # host:pid of the leader; empty when it stepped down
    since = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"term {self.term} ({self.holder or 'nobody'})"
