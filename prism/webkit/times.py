# SPDX-License-Identifier: Apache-2.0
"""Times as the operator reads them: absolute in his zone and relative to now."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from django.http import HttpRequest
from django.utils import timezone

ZONE_COOKIE = "prism_zone"
_STEPS = ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def zone_of(request: HttpRequest | None) -> tzinfo:
    """The zone that the browser told by cookie; UTC when it told none or one that does not exist."""
    name = unquote(request.COOKIES.get(ZONE_COOKIE, "")) if request is not None else ""
    if not name or len(name) > 64 or name.startswith("/") or ".." in name:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC


def span(seconds: float) -> str:
    """`90061` seconds -> `1 d 1 h`: the two largest units, never negative."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in _STEPS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 s"


def relative(at: datetime, now: datetime | None = None) -> str:
    """`in 5 min`, `2 h 3 min ago`, `just now`. Whole minutes: seconds would flicker on a page that renews itself."""
    seconds = int((at - (now or timezone.now())).total_seconds())
    if abs(seconds) < 60:
        return "just now" if seconds <= 1 else "in less than a minute"
    minutes = abs(seconds) // 60 * 60
    return f"in {span(minutes)}" if seconds > 0 else f"{span(minutes)} ago"


def absolute(at: datetime, zone: tzinfo) -> str:
    """`2026-11-22 15:38:00` in `zone`."""
    return at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
