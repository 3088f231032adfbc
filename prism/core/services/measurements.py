# SPDX-License-Identifier: Apache-2.0
"""Keep and read what was measured, in steps of a fixed length; a month of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connection

from prism.core.models import Measurement

KEEP = timedelta(days=32)


@dataclass(frozen=True)
class Series:
    """`step`: how much time one row stands for."""

    name: str
    step: timedelta


USED = Series("capacity.used", timedelta(minutes=5))
"""Bytes that this site's store, hot tier and log hold."""
FREE = Series("capacity.free", timedelta(minutes=5))
"""Bytes free on the file system under them."""
SENT = Series("sent", timedelta(minutes=1))
"""Bytes on the wire of replications that this site sends; of a remote site or of a protection domain."""
LATENCY = Series("latency", timedelta(minutes=1))
"""Microseconds until a remote site answered, the last answer of the step."""

_UPSERT = """
INSERT INTO core_measurement (series, subject, at, value) VALUES (%s, %s, %s, %s)
ON CONFLICT (series, subject, at) DO UPDATE SET value = {value}
"""


def put(series: Series, subject: object, at: datetime, value: int) -> None:
    """The step's number; a later one of the same step replaces it."""
    _write(series, subject, at, value, "excluded.value")


def add(series: Series, subject: object, at: datetime, value: int) -> None:
    """More of what is counted in the step."""
    _write(series, subject, at, value, "core_measurement.value + excluded.value")


def _write(series: Series, subject: object, at: datetime, value: int, kept: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_UPSERT.format(value=kept), [series.name, str(subject), step_of(series, at), value])


def step_of(series: Series, at: datetime) -> datetime:
    """The start of the step that `at` lies in."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (at - epoch) // series.step * series.step


Points = list[tuple[datetime, int]]


def read(wanted: Mapping[Series, object], start: datetime, end: datetime) -> dict[Series, Points]:
    """Rows of each series about its subject whose step begins in [start, end), oldest first. One query."""
    found: dict[Series, Points] = {series: [] for series in wanted}
    by_key = {(series.name, str(subject)): series for series, subject in wanted.items()}
    rows = Measurement.objects.filter(
        series__in={series.name for series in wanted},
        subject__in={str(subject) for subject in wanted.values()},
        at__gte=start,
        at__lt=end,
    )
    for name, subject, at, value in rows.order_by("at").values_list("series", "subject", "at", "value"):
        series = by_key.get((name, subject))
        if series is not None:
            found[series].append((at, value))
    return found


def prune(now: datetime) -> int:
    """Forget what is too old for any chart. Returns how many rows."""
    gone, _ = Measurement.objects.filter(at__lt=now - KEEP).delete()
    return gone
