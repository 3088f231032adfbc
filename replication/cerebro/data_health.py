# SPDX-License-Identifier: Apache-2.0
"""What is damaged at this site and cannot be healed, said with its effect: stored data, and the log."""

from __future__ import annotations

from typing import Any

from prism.core.engine import engine
from prism.core.services import alerts, integrity
from stargate.errors import StargateError

KIND = "damaged_data"
LOG_KIND = "log_damaged"


def look() -> int:
    """Raise or clear "Damaged Data Found"; how many parts are damaged, 0 also when the engine does not answer."""
    try:
        scrub: dict[str, Any] = engine().usage().get("scrub") or {}
    except StargateError:
        return 0  # that is another alert's business
    damaged = max(int(scrub.get("damaged", 0)), len(scrub.get("unfoldable", ())))
    if damaged:
        alerts.raise_alert(KIND, _sentence(damaged, scrub))
    else:
        alerts.clear(KIND)
    return damaged


def look_at_log() -> bool:
    """Raise or clear "Log Is Damaged"; whether it is, False also when the engine does not answer."""
    try:
        damage = integrity.log_damage()
    except StargateError:
        return False
    if damage is None:
        alerts.clear(LOG_KIND)
        return False
    disks = "All disks answer EIO until then. " if damage.heads_lost else ""
    rest = "Snapshots from before the damage can be read and are still sent; everything else is refused."
    alerts.raise_alert(LOG_KIND, f"{damage.message}. {disks}{rest}")
    return True


def _sentence(damaged: int, scrub: dict[str, Any]) -> str:
    parts = "part of the stored data is" if damaged == 1 else "parts of the stored data are"
    first = " ".join(str(text)[:200] for text in scrub.get("findings", ())[:1])
    stuck = len(scrub.get("unfoldable", ()))
    held = f" {stuck} versions of disks cannot be replicated because of it." if stuck else ""
    what = f"{damaged} {parts} damaged, and no copy was found to heal it. Reads of these blocks fail."
    return f"{what}{held} {first}".strip()
