# SPDX-License-Identifier: Apache-2.0
"""Are the other sites there? Asked by the leader's second thread, so that a dead link never delays due work."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from prism.core.services import measurements
from replication import constants
from replication.choices import SiteStatus
from replication.exceptions import PeerRefused, PeerUnreachable
from replication.models import RemoteSite
from replication.services import notices, remote_sites

PARALLEL = 8

Result = Mapping[str, Any] | PeerUnreachable | PeerRefused


def check_peers(now: datetime) -> dict[str, bool]:
    """Ping every paired site, note the answers, raise and clear "Remote Site Is Unhealthy". {site name: answered}."""
    sites = list(RemoteSite.objects.exclude(certificate_pem=""))
    if not sites:
        return {}
    with ThreadPoolExecutor(min(PARALLEL, len(sites)), thread_name_prefix="ping") as pool:
        results = list(pool.map(_ask, sites))
    return {site.name: _note(site, result, now) for site, result in zip(sites, results, strict=True)}


def _ask(site: RemoteSite) -> Result:
    """Network only: these threads have no database connection."""
    try:
        return remote_sites.ping(site, constants.PING_TIMEOUT_SECONDS)
    except (PeerUnreachable, PeerRefused) as error:
        return error


def _note(site: RemoteSite, result: Result, now: datetime) -> bool:
    if not isinstance(result, PeerUnreachable | PeerRefused):
        remote_sites.note_answer(site, result)
        microseconds = int(result["latency_seconds"] * 1_000_000)
        measurements.put(measurements.LATENCY, site.uuid, now, microseconds)
        return True
    same = RemoteSite.objects.filter(pk=site.pk, certificate_pem=site.certificate_pem)
    same.filter(silent_since=None).update(silent_since=now)
    same.update(status=SiteStatus.UNREACHABLE)
    since = site.silent_since or now
    if now - since >= constants.UNHEALTHY_AFTER:
        notices.site_unhealthy(site, result.message)
    return False
