# SPDX-License-Identifier: Apache-2.0
"""This site as other sites see it: its identity card and its addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings

from prism.core.exceptions import Unreachable
from replication.models.remote_site import CONTROL_PORT, DATA_PORT
from stargate.errors import AlreadyExists
from stargate.peer.identity import Identity, create_identity, load_identity

ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})


@dataclass(frozen=True)
class LocalSite:
    """What `site.json` says, as far as other sites are concerned."""

    uuid: str
    name: str
    listen: str  # an address of this machine, or the wildcard
    control_port: int
    data_port: int

    def addresses(self) -> list[dict[str, Any]]:
        """Where peers find us; the host is "" when we listen on all addresses (the peer then uses the one it saw)."""
        host = "" if self.listen in ANY_ADDRESS else self.listen
        return [{"host": host, "control_port": self.control_port, "data_port": self.data_port}]


def local_site() -> LocalSite:
    """This process's site; raises `Unreachable` outside a site's data folder."""
    config = settings.SITE_CONFIG
    if config is None:
        raise Unreachable("no_site", "This process does not know its site.", "Start it with PRISM_DATA set.")
    return LocalSite(
        uuid=config.uuid,
        name=config.name,
        listen=config.listen,
        control_port=config.ports.get("control", CONTROL_PORT),
        data_port=config.ports.get("peer", DATA_PORT),
    )


def own_address() -> str:
    """Where this site listens; empty outside a site's data folder."""
    return settings.SITE_CONFIG.listen if settings.SITE_CONFIG is not None else ""


def identity() -> Identity:
    """Key and certificate of this site; made at the first call, by whichever process comes first."""
    site, layout = local_site(), settings.LAYOUT
    if layout is None:
        raise Unreachable("no_site", "This process does not know its site.", "Start it with PRISM_DATA set.")
    folder = layout.identity
    try:
        return load_identity(folder)
    except FileNotFoundError:
        pass
    try:
        return create_identity(folder, f"{site.name} {site.uuid}"[:64])
    except AlreadyExists:
        return load_identity(folder)
