# SPDX-License-Identifier: Apache-2.0
"""Things that happened, for the Events tabs."""

from __future__ import annotations

from typing import Any

from prism.core.choices import Severity
from prism.core.models import Event


def add(
    kind: str,
    message: str,
    *,
    severity: str = Severity.INFO,
    object_type: str = "",
    object_name: str = "",
    object_id: Any = "",
) -> Event:
    """Append one event. `kind` is a stable word such as `snapshot_created`; `message` a whole sentence."""
    return Event.objects.create(
        kind=kind,
        message=message,
        severity=severity,
        object_type=object_type,
        object_name=object_name,
        object_id=str(object_id),
    )
