# SPDX-License-Identifier: Apache-2.0
"""Is what this site stored still whole: what the scrub knows, and whether a part of the log was lost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prism.core.actor import Actor
from prism.core.engine import engine
from prism.core.services import audit
from prism.core.services.sites import this_site


@dataclass(frozen=True)
class Integrity:
    """`damaged`: parts that no site has whole; `findings` says the first of them in words. `unfoldable`: versions of
    disks that cannot be replicated because of it. `oldest_unchecked_seconds`: since the part that was not read for
    longest was read, None = nothing is stored. `last_pass_at` None = not everything was read yet.
    """

    damaged: int
    healed: int
    findings: list[str]
    unfoldable: int
    oldest_unchecked_seconds: float | None
    last_pass_at: datetime | None
    parts: int
    asked_left: int
    """Of the `parts`, those that "Scrub now" still has to read; 0 = it is not running."""

    @property
    def asked_percent(self) -> int:
        """How far "Scrub now" is, 0..100."""
        return 100 * (self.parts - self.asked_left) // max(1, self.parts)


@dataclass(frozen=True)
class LogDamage:
    """Where the log breaks off. `heads_lost`: disks answer EIO; otherwise they can be read until the next restart."""

    position: int
    heads_lost: bool
    message: str


def integrity() -> Integrity:
    """Asked of the engine. Raises StargateError, Unreachable."""
    return _read(engine().health())


def log_damage() -> LogDamage | None:
    """None: the log is whole. Raises StargateError, Unreachable."""
    told = engine().status().get("damaged")
    return LogDamage(int(told["position"]), bool(told["heads_lost"]), str(told["message"])) if told else None


def scrub_now(*, actor: Actor) -> Integrity:
    """Have everything read now, in the background and at the scrub's own pace. Ordered again it begins anew."""
    with audit.order("scrub.start", actor=actor, object_type="site", object_name=this_site().name) as detail:
        found = _read(engine().scrub_start())
        detail["parts"] = found.parts
    return found


def _read(told: dict[str, Any]) -> Integrity:
    at = told["last_pass_at"]
    return Integrity(
        damaged=int(told["damaged"]),
        healed=int(told["healed"]),
        findings=[str(text)[:500] for text in told["findings"]],
        unfoldable=len(told["unfoldable"]),
        oldest_unchecked_seconds=told["oldest_unchecked_seconds"],
        last_pass_at=None if at is None else datetime.fromtimestamp(at, UTC),
        parts=int(told["parts"]),
        asked_left=int(told["asked_left"]),
    )
