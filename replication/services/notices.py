# SPDX-License-Identifier: Apache-2.0
"""What the operator is told about replications and remote sites: alerts and events in the documented words."""

from __future__ import annotations

from prism.core.choices import Severity
from prism.core.services import alerts, events
from replication.choices import Direction
from replication.models import RemoteSite, Replication

_DOMAIN = "protection_domain"
_SITE = "remote_site"


def _what(row: Replication) -> str:
    way = "to" if row.direction == Direction.OUT else "from"
    return f"snapshot {row.display_id} of {row.domain_name} {way} {row.site.name}"


def _alert(kind: str, row: Replication, message: str, *, dedup: str) -> None:
    alerts.raise_alert(
        kind, message, object_type=_DOMAIN, object_name=row.domain_name, object_id=row.domain_uuid, dedup=dedup
    )


def _event(kind: str, row: Replication, message: str, severity: str = Severity.INFO) -> None:
    events.add(
        kind,
        message,
        severity=severity,
        object_type=_DOMAIN,
        object_name=row.domain_name,
        object_id=row.domain_uuid,
    )


def happened(row: Replication, word: str) -> None:
    """One of started, completed, paused, resumed, aborted."""
    _event(f"replication_{word}", row, f"Replication of {_what(row)} {word}.")


def completed(row: Replication) -> None:
    """The domain replicates again: an older failure towards this site is over."""
    happened(row, "completed")
    kind = "replication_failure" if row.direction == Direction.OUT else "receive_failure"
    alerts.clear(kind, object_type=_DOMAIN, object_name=row.domain_name, object_id=row.domain_uuid, dedup=row.site.name)


def failed(row: Replication) -> None:
    """For good: nobody retries."""
    kind = "replication_failure" if row.direction == Direction.OUT else "receive_failure"
    message = f"Replication of {_what(row)} failed: {row.error}"
    _alert(kind, row, message, dedup=row.site.name)
    _event("replication_failed", row, message, Severity.CRITICAL)


def expired(row: Replication) -> None:
    """Its time was over before it was complete."""
    message = f"Replication of {_what(row)} expired before it was complete."
    _alert("replication_expired", row, message, dedup=row.site.name)
    _event("replication_expired", row, message, Severity.WARNING)


def skipped(row: Replication, *, newer: Replication) -> None:
    """`newer` went first."""
    message = f"Replication of {_what(row)} was skipped: snapshot {newer.display_id} is newer."
    _alert("replication_skipped", row, message, dedup=row.site.name)
    _event("replication_skipped", row, message, Severity.WARNING)


def full(row: Replication) -> None:
    """No common snapshot."""
    message = f"Full replication of {_what(row)}: the sites have no snapshot of it in common."
    _alert("full_replication", row, message, dedup=row.site.name)
    _event("full_replication", row, message)


def site_event(site: RemoteSite, word: str) -> None:
    """One of added, updated, removed, paired, unpaired."""
    events.add(
        f"remote_site_{word}",
        f"Remote site {site.name} {word}.",
        object_type=_SITE,
        object_name=site.name,
        object_id=site.uuid,
    )


def site_unhealthy(site: RemoteSite, reason: str) -> None:
    """Raised once it has been silent for long enough; counted while it lasts."""
    alerts.raise_alert(
        "remote_site_unhealthy",
        f"The remote site {site.name} is unhealthy: {reason}",
        object_type=_SITE,
        object_name=site.name,
        object_id=site.uuid,
    )


def site_healthy(site: RemoteSite) -> None:
    """It answers: the alert ends by itself."""
    alerts.clear("remote_site_unhealthy", object_type=_SITE, object_name=site.name, object_id=site.uuid)
