# SPDX-License-Identifier: Apache-2.0
"""Orders about remote sites."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from prism.core.actor import Actor
from prism.core.exceptions import Conflict, InvalidInput
from prism.core.services import audit
from replication.cerebro import registry
from replication.choices import Capability, SiteStatus
from replication.models import RemoteSite, Replication
from replication.rpc import client
from replication.services import notices, site_rows
from replication.services.pairing import PairingOffer, start_pairing, unpair
from replication.services.pairing_client import pair
from replication.states import OUTSTANDING

__all__ = ["PairingOffer", "create", "pair", "remove", "start_pairing", "test_connection", "unpair", "update"]

LATER = {
    "proxy": "A proxy (bridgehead)",
    "ssh_tunnel": "An SSH tunnel",
    "bandwidth_policy": "Bandwidth throttling",
}
"""Fields of the dialog that this release refuses."""


def create(
    *,
    name: str,
    addresses: Sequence[Mapping[str, Any]],
    actor: Actor,
    capability: str = Capability.DISASTER_RECOVERY,
    **options: Any,
) -> RemoteSite:
    """A site that is not paired yet. Options: container_map, network_map, compress. Raises `InvalidInput`."""
    with audit.order("remote_site.create", actor=actor, object_type="remote_site", object_name=name):
        site = RemoteSite()
        _apply(site, {"name": name, "addresses": addresses, "capability": capability, **options})
        _save(site)
        notices.site_event(site, "added")
    return site


def update(site: RemoteSite, *, actor: Actor, **changes: Any) -> RemoteSite:
    """Change name, addresses, capability, container_map, network_map or compress. Raises `InvalidInput`."""
    with audit.order("remote_site.update", actor=actor, object_type="remote_site", object_name=site.name) as detail:
        detail["fields"] = sorted(changes)
        _apply(site, changes)
        _save(site)
        notices.site_event(site, "updated")
    return site


def _apply(site: RemoteSite, values: Mapping[str, Any]) -> None:
    checks: dict[str, Callable[[Any], Any]] = {
        "name": site_rows.checked_name,
        "addresses": site_rows.checked_addresses,
        "capability": _capability,
        "container_map": lambda value: _name_map("container_map", value),
        "network_map": lambda value: _name_map("network_map", value),
        "compress": bool,
    }
    for field, value in values.items():
        if field in LATER:
            if value:
                raise InvalidInput(field, f"{LATER[field]} is not in this release.", code="not_in_release")
            continue
        if field not in checks:
            raise InvalidInput(field, f"A remote site has no field {field}.")
        setattr(site, field, checks[field](value))


def _capability(value: str) -> str:
    if value not in Capability.values:
        raise InvalidInput("capability", f"The capability is one of {', '.join(Capability.values)}.")
    return value


def _name_map(field: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(
        isinstance(text, str) and 0 < len(text) <= site_rows.NAME_CHARS_MAX for pair in value.items() for text in pair
    ):
        raise InvalidInput(field, "A mapping has a name of this site and a name of the other site in each row.")
    return dict(value)


def _save(site: RemoteSite) -> None:
    try:
        with transaction.atomic():
            site.save()
    except IntegrityError as error:
        raise InvalidInput("name", f"There is a remote site {site.name} already.", "Choose another name.") from error


def remove(site: RemoteSite, *, actor: Actor) -> None:
    """End the pairing and delete the row with its finished replications.

    Raises `Conflict` while a schedule, a protection domain or an outstanding replication needs the site.
    """
    name = site.name
    reasons = [text for check in registry.site_uses.values() for text in check(site)]
    if Replication.objects.filter(site=site, state__in=OUTSTANDING).exists():
        reasons.append("Replications with it are outstanding: abort them or let them finish.")
    order = audit.order("remote_site.remove", actor=actor, object_type="remote_site", object_name=name, atomic=False)
    with order:
        if reasons:
            raise Conflict("site_in_use", f"Remote site {name} is in use. {' '.join(reasons)}", "Remove these first.")
        if site.is_paired:
            unpair(site, actor=actor)
        try:
            site.delete()
        except ProtectedError as error:
            raise Conflict("site_in_use", f"Schedules name the remote site {name}.", "Remove these first.") from error
        notices.site_event(site, "removed")


def test_connection(site: RemoteSite, *, actor: Actor) -> dict[str, Any]:
    """Ask the site now: {latency_seconds, name, ...}. Raises `PeerUnreachable` or `PeerRefused`."""
    with audit.order(
        "remote_site.test", actor=actor, object_type="remote_site", object_name=site.name, atomic=False
    ) as detail:
        info = ping(site)
        note_answer(site, info)
        detail["latency_seconds"] = info["latency_seconds"]
    return info


def ping(site: RemoteSite, timeout: float = 5.0) -> dict[str, Any]:
    """One round trip; touches no database, so it may run in any thread. Raises as `rpc.client.call` does."""
    begun = time.perf_counter()
    answer = client.call(site, "ping", {}, timeout)
    return {**answer, "latency_seconds": time.perf_counter() - begun}


def note_answer(site: RemoteSite, info: Mapping[str, Any]) -> None:
    """Keep what `ping` returned."""
    RemoteSite.objects.filter(pk=site.pk, certificate_pem=site.certificate_pem).update(
        latency_seconds=info["latency_seconds"],
        last_seen_at=timezone.now(),
        status=SiteStatus.RELATIONSHIP_ESTABLISHED,
        silent_since=None,
        peer_info=dict(info),
    )
    notices.site_healthy(site)
