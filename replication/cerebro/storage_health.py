# SPDX-License-Identifier: Apache-2.0
"""How full is the file system under this site's block engine, said before it is too late."""

from __future__ import annotations

from django.utils import timezone

from prism.core.engine import engine
from prism.core.services import alerts, measurements
from stargate.errors import StargateError

PARTS = ("stored_bytes", "hot_bytes", "log_bytes")
"""What a site holds on its file system: extents, hot tier, log."""
NEARLY_FULL, FULL = "storage_nearly_full", "storage_full"

_REFUSED = "new snapshots and replications to this site are refused"
_EFFECTS = {
    "nearly_full": "soon snapshots and replications to this site will be refused",
    "scarce": f"{_REFUSED}; disks go on",
    "full": f"{_REFUSED}, and when the log is full too, guests get the error 'no space'",
}


def look() -> str:
    """Measure the space; raise or clear "Storage Is Nearly Full" and "Storage Is Full".

    Returns the engine's word for the level, "" = unknown.
    """
    try:
        usage = engine().usage()
    except StargateError:
        return ""  # that is another alert's business
    now = timezone.now()
    measurements.put(measurements.USED, "", now, sum(int(usage.get(part) or 0) for part in PARTS))
    measurements.put(measurements.FREE, "", now, int(usage["free_bytes"]))
    level = str(usage.get("level", "good"))
    for kind, levels in ((NEARLY_FULL, ("nearly_full",)), (FULL, ("scarce", "full"))):
        if level in levels:
            alerts.raise_alert(kind, _sentence(level, int(usage["free_bytes"]), int(usage.get("capacity_bytes", 0))))
        else:
            alerts.clear(kind)
    return level


def _sentence(level: str, free_bytes: int, capacity_bytes: int) -> str:
    gib, share = free_bytes / (1 << 30), 100 * free_bytes / max(1, capacity_bytes)
    return f"{gib:.2f} GiB ({share:.1f} %) of this site's storage are free: {_EFFECTS[level]}."
