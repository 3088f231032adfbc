# SPDX-License-Identifier: Apache-2.0
"""Checking what an operator or a peer says about a site, and the row that a pairing leaves."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.utils import timezone

from prism.core.exceptions import InvalidInput
from replication.choices import SiteStatus
from replication.local import own_address
from replication.models import RemoteSite
from replication.models.remote_site import CONTROL_PORT, DATA_PORT
from replication.rpc import reach
from stargate.peer.identity import fingerprint

NAME_CHARS_MAX = 75
ADDRESSES_MAX = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]*")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,252}")


def checked_name(name: str) -> str:
    """The name without outer blanks; raises `InvalidInput`."""
    name = name.strip()
    if len(name) > NAME_CHARS_MAX:
        raise InvalidInput("name", f"The name has {len(name)} characters; {NAME_CHARS_MAX} are allowed.", "Shorten it.")
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "name", "A name has letters, digits, blanks and . _ - only, and begins with one of the first two."
        )
    return name


def checked_addresses(addresses: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Hosts with both ports filled in; raises `InvalidInput`."""
    if not 1 <= len(addresses) <= ADDRESSES_MAX:
        raise InvalidInput("addresses", f"Enter between 1 and {ADDRESSES_MAX} addresses.")
    return [
        {
            "host": _host(entry.get("host")),
            "control_port": _port(entry.get("control_port", CONTROL_PORT)),
            "data_port": _port(entry.get("data_port", DATA_PORT)),
        }
        for entry in addresses
    ]


def _host(value: object) -> str:
    if not isinstance(value, str) or not _HOST.fullmatch(value.strip()):
        raise InvalidInput(
            "addresses", "This is not an IP address or host name.", "Enter it without https:// and port."
        )
    host = value.strip()
    reason = reach.refusal(host, own=own_address())
    if reason:
        raise InvalidInput(
            "addresses", f"{host} is no address of another site: {reason}.", "Enter where that site listens."
        )
    return host


def _port(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise InvalidInput("addresses", "A port is a number from 1 to 65535.")
    return value


def pairing_fingerprint(one: str, other: str) -> str:
    """What both operators compare: 16 hex bytes over both certificates' fingerprints, sorted."""
    digest = hashlib.sha256("\n".join(sorted([one, other])).encode()).hexdigest().upper()[:32]
    return " ".join(digest[at : at + 4] for at in range(0, 32, 4))


def paired(
    *,
    site_uuid: uuid.UUID,
    name: str,
    addresses: list[dict[str, Any]],
    certificate_pem: str,
    own_fingerprint: str,
) -> RemoteSite:
    """The row of a site that has proven itself: that of its uuid, else an unpaired one of its name, else a new one."""
    site = (
        RemoteSite.objects.select_for_update().filter(site_uuid=site_uuid).first()
        or RemoteSite.objects.select_for_update().filter(name=name, site_uuid=None).first()
        or RemoteSite(name=_free_name(checked_name(name), site_uuid))
    )
    site.site_uuid = site_uuid
    site.addresses = addresses
    site.certificate_pem = certificate_pem
    site.fingerprint = fingerprint(certificate_pem)
    site.pairing_fingerprint = pairing_fingerprint(own_fingerprint, site.fingerprint)
    site.status = SiteStatus.RELATIONSHIP_ESTABLISHED
    site.last_seen_at = timezone.now()
    site.silent_since = None
    site.engine_knows = False
    site.save()
    return site


def _free_name(name: str, site_uuid: uuid.UUID) -> str:
    if not RemoteSite.objects.filter(name=name).exists():
        return name
    return f"{name[: NAME_CHARS_MAX - 9]}-{site_uuid.hex[:8]}"


def unpaired(site: RemoteSite) -> None:
    """Forget the pin; name, addresses and mappings stay for the next pairing."""
    site.certificate_pem = site.fingerprint = site.pairing_fingerprint = ""
    site.status = SiteStatus.NOT_PAIRED
    site.engine_knows = False
    site.silent_since = site.latency_seconds = None
    site.save()
