# SPDX-License-Identifier: Apache-2.0
"""Every state word of the console with its icon and colour: one table, so that a word looks the same on all pages."""

from __future__ import annotations

from typing import NamedTuple


class Badge(NamedTuple):
    """`tone` is a class of components.css, `icon` a symbol of icons.svg."""

    label: str
    tone: str
    icon: str


_RUN = ("busy", "run")
_BADGES: dict[str, Badge] = {
    # protection domains
    "active": Badge("Active", "good", "ok"),
    "inactive": Badge("Inactive", "", "pause"),
    "migrating_out": Badge("Migrating out", *_RUN),
    "migrating_in": Badge("Migrating in", *_RUN),
    "activating": Badge("Activating", *_RUN),
    "deactivating": Badge("Deactivating", *_RUN),
    "needs_operator": Badge("Needs operator", "bad", "bad"),
    "unconfirmed": Badge("Unconfirmed", "warn", "warn"),
    "active_elsewhere": Badge("Active on another site", "bad", "bad"),
    # tasks and replications
    "queued": Badge("Queued", "", "wait"),
    "pending": Badge("Pending", "", "wait"),
    "running": Badge("Running", *_RUN),
    "stalled": Badge("Stalled", "warn", "warn"),
    "paused": Badge("Paused", "warn", "pause"),
    "succeeded": Badge("Succeeded", "good", "ok"),
    "failed": Badge("Failed", "bad", "bad"),
    "cancelled": Badge("Cancelled", "", "stop"),
    "aborted": Badge("Aborted", "", "stop"),
    "expired": Badge("Expired", "", "stop"),
    "skipped": Badge("Skipped", "warn", "right"),
    # snapshots
    "available": Badge("Available", "good", "ok"),
    "retain_forever": Badge("No expiration", "good", "lock"),
    "deleting": Badge("Deleting", *_RUN),
    # remote sites
    "not_paired": Badge("Not paired", "", "stop"),
    "handshaking": Badge("Handshaking", *_RUN),
    "relationship_established": Badge("Relationship established", "good", "link"),
    "unreachable": Badge("Unreachable", "bad", "bad"),
    # alerts and events
    "critical": Badge("Critical", "bad", "bad"),
    "warning": Badge("Warning", "warn", "warn"),
    "info": Badge("Info", "busy", "info"),
    "acknowledged": Badge("Acknowledged", "", "check"),
    "resolved": Badge("Resolved", "good", "ok"),
    # audit
    "ok": Badge("Done", "good", "ok"),
    "refused": Badge("Refused", "warn", "stop"),
    # power, users, tokens
    "on": Badge("On", "good", "ok"),
    "off": Badge("Off", "", "stop"),
    "enabled": Badge("Enabled", "good", "ok"),
    "disabled": Badge("Disabled", "", "stop"),
    "locked": Badge("Locked", "warn", "lock"),
    "revoked": Badge("Revoked", "", "stop"),
    "scheduled": Badge("Scheduled", "", "calendar"),
    "done": Badge("Done", "good", "ok"),
}


def badge(state: object) -> Badge:
    """The badge of a state value (any case); an unknown word is shown as it is."""
    word = str(getattr(state, "value", state) or "")
    return _BADGES.get(word.lower()) or Badge(word.replace("_", " ").capitalize() or "Unknown", "", "info")


_TASKS = {
    "snapshot.take": "Take Snapshot",
    "snapshot.scheduled": "Scheduled snapshot",
    "restore.overwrite": "Restore, overwrite",
    "restore.clone": "Restore, new entities",
    "domain.migrate": "Migrate",
    "domain.activate": "Activate",
    "domain.deactivate": "Deactivate",
    "replicate": "Replicate",
}


def task_words(kind: str) -> str:
    """A kind of task as the buttons call it; an unknown one as it is."""
    return _TASKS.get(kind, kind)
