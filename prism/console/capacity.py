# SPDX-License-Identifier: Apache-2.0
"""How the space that this site uses has grown, for the landing page."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from prism.core.services import measurements
from prism.webkit import charts
from prism.webkit.charts import Chart, Line
from prism.webkit.scales import BYTES, window

LONGEST = timedelta(hours=24)
NOTE = "Extents, hot tier and log of this site. A gap: the engine did not answer, or the site was down."
LIMIT_SHOWN_TO = 4
"""The limit is drawn while it is at most so many times what is used: above, it would press the line to the floor."""


def capacity_chart(now: datetime, zone: tzinfo) -> Chart:
    """Of the last day. One query."""
    wanted = {measurements.USED: "", measurements.FREE: ""}
    found = measurements.read(wanted, now - LONGEST, now + measurements.USED.step)
    used = found[measurements.USED]
    shown = window("", now=now, since=used[0][0] if used else None, zone=zone, longest="day")
    if shown.column < measurements.USED.step:
        shown = window("6h", now=now, since=None, zone=zone)
    free = dict(found[measurements.FREE])
    limit = [(at, count + free[at]) for at, count in used if at in free]
    lines = [Line("Used by this site", "sent", charts.in_columns(used, shown, max))]
    limits = charts.in_columns(limit, shown, min)
    if limits and limits[-1][1] <= LIMIT_SHOWN_TO * max(1, lines[0].points[-1][1]):
        lines.append(Line("What it may use", "limit", limits))
    return charts.stepped("capacity", "Space used by this site", BYTES, shown, lines, note=NOTE)
