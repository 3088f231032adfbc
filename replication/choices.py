# SPDX-License-Identifier: Apache-2.0
"""Enumerations of the replication app, with the words the console shows."""

from __future__ import annotations

from django.db.models import TextChoices


class SiteStatus(TextChoices):
    """What this site knows about a remote site."""

    NOT_PAIRED = "NOT_PAIRED", "Not paired"
    HANDSHAKING = "HANDSHAKING", "Handshaking"
    RELATIONSHIP_ESTABLISHED = "RELATIONSHIP_ESTABLISHED", "Relationship established"
    UNREACHABLE = "UNREACHABLE", "Unreachable"

    @property
    def badge(self) -> str:
        """Colour name of the status badge."""
        return _SITE_BADGES[self]


_SITE_BADGES = {
    SiteStatus.NOT_PAIRED: "grey",
    SiteStatus.HANDSHAKING: "blue",
    SiteStatus.RELATIONSHIP_ESTABLISHED: "green",
    SiteStatus.UNREACHABLE: "red",
}


class Capability(TextChoices):
    """What a remote site may be used for: a backup-only site never activates a domain."""

    DISASTER_RECOVERY = "disaster_recovery", "Disaster Recovery"
    BACKUP = "backup", "Backup"


class Direction(TextChoices):
    """Seen from this site."""

    OUT = "out", "Outgoing"
    IN = "in", "Incoming"


class ReplicationPhase(TextChoices):
    """Where a running replication is; a restarted one begins at OFFER again, every step is idempotent."""

    QUEUED = "queued", "Queued"
    OFFER = "offer", "Offering the snapshot to the remote site"
    FOLD = "fold", "Preparing the snapshot, sending what is ready"
    SYNC = "sync", "Sending data"
    ARRIVED = "arrived", "Waiting for the remote site to confirm"
    DONE = "done", "Done"
