# SPDX-License-Identifier: Apache-2.0
"""What a transfer that does not move waits for, as the object of "It waits for ...". "" where nobody knows."""

from __future__ import annotations

from prism.core.engine import engine
from replication.models import RemoteSite
from stargate.errors import NoSpace, PeerUnreachable, StargateError, Unavailable

FOLDING = "folding"
"""The phase of an engine's job that waits for its snapshot."""
FOLD = "the block engine to fold the snapshot"
ASK_EVERY_SECONDS = 10.0
_FULL = ("scarce", "full")


def reason(site: RemoteSite) -> str:
    """Of a transfer that runs."""
    silent = RemoteSite.objects.filter(pk=site.pk).values_list("silent_since", flat=True).first()
    if silent is not None:
        return f"the link to {site.name}, which has not answered since {silent:%Y-%m-%d %H:%M} UTC"
    try:
        full = engine().usage().get("level") in _FULL
    except StargateError:
        return "the block engine, which does not answer"
    return "room in the storage of this site" if full else ""


def after(error: Exception, site: RemoteSite) -> str:
    """Of a transfer whose last attempt ended with `error` and that is tried again."""
    if isinstance(error, NoSpace):
        return f"room in the storage of {site.name}"
    if isinstance(error, PeerUnreachable) or not isinstance(error, StargateError):
        return f"the link to {site.name}"
    return "the block engine" if isinstance(error, Unavailable) else ""
