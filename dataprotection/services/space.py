# SPDX-License-Identifier: Apache-2.0
"""What deleting snapshots gives back, as the engine's last scan knows it; sums of single figures would miss what
snapshots share with each other alone.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.core.cache import cache
from redis.exceptions import RedisError

from dataprotection.choices import SnapshotState
from dataprotection.models import Snapshot
from prism.core.engine import engine
from prism.core.exceptions import Unreachable
from stargate.errors import StargateError

REMEMBERED_SECONDS = 20
_KEY = "exclusive:{}"


@dataclass(frozen=True)
class Forecast:
    """`freed_bytes` None = not known yet. `exact`: true as of `scanned_at`; otherwise an estimate."""

    freed_bytes: int | None = None
    exact: bool = False
    scanned_at: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"freed_bytes": self.freed_bytes, "exact": self.exact, "scanned_at": self.scanned_at}


def what_if(snapshots: Iterable[UUID]) -> Forecast:
    """What deleting all of these together gives back. Raises StargateError, Unreachable."""
    found = engine().what_if([str(key) for key in snapshots])
    at = found["scanned_at"]
    return Forecast(found["freed_bytes"], found["exact"], None if at is None else datetime.fromtimestamp(at, UTC))


def forecast(snapshots: Iterable[UUID]) -> Forecast:
    """`what_if` for pages: nothing is known while the engine is silent."""
    try:
        return what_if(snapshots)
    except (StargateError, Unreachable):
        return Forecast()


def exclusive_of(domains: Sequence[UUID]) -> dict[UUID, int | None]:
    """Bytes that only the snapshots of each domain hold, all of them together; None = not known yet.

    Pages ask every few seconds and a domain may have ten thousand snapshots: an answer serves `REMEMBERED_SECONDS`.
    """
    keys = {_KEY.format(domain): domain for domain in domains}
    found: dict[UUID, int | None] = {keys[key]: size for key, (size,) in _remembered(list(keys)).items()}
    missing = [domain for domain in domains if domain not in found]
    if missing:
        asked = _ask_exclusive(missing)
        _remember({_KEY.format(domain): (size,) for domain, size in asked.items()})
        found |= asked
    return found


def _remembered(keys: list[str]) -> dict[str, tuple[int | None]]:
    try:
        return cache.get_many(keys)
    except (RedisError, OSError):
        return {}


def _remember(sizes: dict[str, tuple[int | None]]) -> None:
    with contextlib.suppress(RedisError, OSError):
        cache.set_many(sizes, REMEMBERED_SECONDS)


def _ask_exclusive(domains: Sequence[UUID]) -> dict[UUID, int | None]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    rows = Snapshot.objects.filter(domain__in=domains).exclude(state=SnapshotState.DELETING)
    for domain, key in rows.values_list("domain", "uuid"):
        groups[str(domain)].append(str(key))
    found: dict[str, int | None] = {}
    if groups:
        try:
            found = engine().exclusive(groups)
        except (StargateError, Unreachable):
            return dict.fromkeys(domains)
    return {domain: found.get(str(domain)) if str(domain) in groups else 0 for domain in domains}
