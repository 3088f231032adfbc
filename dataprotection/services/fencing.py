# SPDX-License-Identifier: Apache-2.0
"""The leader's term, which every change of the engine that a task makes carries."""

from __future__ import annotations

from replication.models import LeaderState


def current_term() -> int | None:
    """The highest term known here; None before the first leader (the engine then takes orders from anybody)."""
    term = LeaderState.objects.filter(pk=1).values_list("term", flat=True).first()
    return term or None
