# SPDX-License-Identifier: Apache-2.0
"""Bandwidth of a domain's finished replications as a server-made picture; its table twin is the Replications tab."""

from __future__ import annotations

from dataclasses import dataclass

from dataprotection.models import ProtectionDomain
from replication.choices import Direction
from replication.models import Replication
from replication.states import ReplicationState

POINTS_MAX = 60
WIDTH, HEIGHT = 600, 90


@dataclass(frozen=True)
class Chart:
    """SVG path data; `peak` in bytes per second. Empty `line`: nothing to draw."""

    title: str
    line: str
    area: str
    peak: int
    count: int


def _rates(domain: ProtectionDomain, direction: str) -> list[int]:
    done = Replication.objects.filter(
        domain_uuid=domain.pk,
        direction=direction,
        state=ReplicationState.SUCCEEDED,
        started_at__isnull=False,
        finished_at__isnull=False,
    ).order_by("-finished_at")
    rates = []
    for wire, started, finished in done.values_list("wire_bytes", "started_at", "finished_at")[:POINTS_MAX]:
        if started is not None and finished is not None:
            rates.append(int(wire / max((finished - started).total_seconds(), 0.001)))
    return rates[::-1]


def chart(title: str, values: list[int]) -> Chart:
    """A line over the values, oldest left; one value is drawn as a flat line."""
    if not values:
        return Chart(title, "", "", 0, 0)
    peak = max(values) or 1
    drawn = values if len(values) > 1 else values * 2
    step = WIDTH / (len(drawn) - 1)
    points = [
        f"{index * step:.1f} {HEIGHT - 4 - value / peak * (HEIGHT - 10):.1f}" for index, value in enumerate(drawn)
    ]
    line = "M" + "L".join(points)
    return Chart(title, line, f"{line}L{WIDTH} {HEIGHT}L0 {HEIGHT}Z", max(values), len(values))


def bandwidth_charts(domain: ProtectionDomain) -> list[Chart]:
    """Sent and received."""
    return [
        chart("Bandwidth used (Tx)", _rates(domain, Direction.OUT)),
        chart("Bandwidth used (Rx)", _rates(domain, Direction.IN)),
    ]
