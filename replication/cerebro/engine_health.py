# SPDX-License-Identifier: Apache-2.0
"""Is this site's block engine well? Disks may serve for long while nothing is drained: somebody has to say so."""

from __future__ import annotations

from datetime import datetime

from prism.core.engine import engine
from prism.core.services import alerts
from replication import constants
from stargate.errors import StargateError

KIND = "engine_unhealthy"


class EngineHealth:
    """Raises "Block Engine Is Unhealthy" for what lasts, and clears it."""

    def __init__(self) -> None:
        self.since: datetime | None = None

    def look(self, now: datetime) -> str:
        """What is wrong now, "" for nothing."""
        found = problem()
        if not found:
            self.since = None
            alerts.clear(KIND)
            return ""
        self.since = self.since or now
        if now - self.since >= constants.UNHEALTHY_AFTER:
            alerts.raise_alert(KIND, found)
        return found


def problem() -> str:
    """One sentence about the worst of it."""
    try:
        front = engine().status()
    except StargateError as error:
        return f"The engine's front does not answer: {error.message}."
    if front.get("damaged"):
        return ""  # "Log Is Damaged" says it, and what to do
    if front.get("frozen"):
        return "The log is frozen after a failed write: disks are read-only until the engine is restarted."
    if not front.get("store_connected"):
        used, cap = int(front.get("log_used_bytes", 0)), max(1, int(front.get("log_cap_bytes", 1)))
        return f"The engine's store does not follow its front: nothing drains, the log is {100 * used // cap} % full."
    try:
        store = engine().store.call("status")
    except StargateError as exc:
        return f"The engine's store does not answer: {exc.message}."
    if store.get("space") == "full":
        return ""  # "Storage Is Full" says it, and what to do
    if failing := str(store.get("last_error", "")):
        return f"The engine's store keeps failing: {failing[:300]}"
    if network := str(front.get("nbd_problem", "")):
        return f"No client on a network can open a disk: {network[:400]}."
    sweep = str(store.get("sweep_error", ""))
    return f"The space of deleted snapshots does not come back: {sweep[:300]}" if sweep else ""
