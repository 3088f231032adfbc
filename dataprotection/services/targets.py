# SPDX-License-Identifier: Apache-2.0
"""Remote sites as targets of a domain's snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataprotection.models import ProtectionDomain
from prism.core.exceptions import InvalidInput
from replication.exceptions import PeerRefused, PeerUnreachable
from replication.models import RemoteSite
from replication.rpc import client


def checked(domain: ProtectionDomain, keys: Sequence[int]) -> list[RemoteSite]:
    """The sites with these primary keys: existing, paired, and without another domain of the same name.

    A site that does not answer now is let through: it checks the name itself when the first snapshot is offered.
    """
    sites = {site.pk: site for site in RemoteSite.objects.filter(pk__in=keys)}
    for key in keys:
        if key not in sites:
            raise InvalidInput(
                "remotes", "A remote retention needs a remote site.", "Add the remote site first, then choose it."
            )
        site = sites[key]
        if not site.is_paired:
            raise InvalidInput("remotes", f"The remote site {site.name} is not paired.", "Pair the two sites first.")
        _refuse_name_taken(domain, site)
    return [sites[key] for key in keys]


def domain_state(domain: ProtectionDomain, site: RemoteSite, *, timeout: float = 5.0) -> dict[str, Any]:
    """What `site` knows of the domain. Raises PeerUnreachable or PeerRefused."""
    return client.call(site, "domain_state", {"domain": str(domain.uuid), "name": domain.name}, timeout=timeout)


def _refuse_name_taken(domain: ProtectionDomain, site: RemoteSite) -> None:
    try:
        state = domain_state(domain, site)
    except (PeerUnreachable, PeerRefused):
        return
    if state.get("name_taken"):
        raise InvalidInput(
            "name",
            f"{site.name} has another protection domain named {domain.name}.",
            "Delete that one, or protect the entities in a domain of another name.",
            code="name_taken",
        )
