# SPDX-License-Identifier: Apache-2.0
"""The block engine's own list of paired sites follows the table: data connections are pinned there."""

from __future__ import annotations

import logging

from prism.core.engine import engine
from prism.core.exceptions import Unreachable
from replication.models import RemoteSite
from stargate.errors import StargateError

log = logging.getLogger(__name__)


def push(site: RemoteSite) -> bool:
    """Tell the engine the pin of a paired site. False when it does not answer now; the leader repeats it."""
    try:
        first = (site.addresses or [{}])[0]
        engine().peer_set(
            str(site.site_uuid),
            site.name,
            site.certificate_pem,
            address=str(first.get("host", "")),
            port=int(first.get("data_port", 0)),
        )
    except (StargateError, Unreachable) as error:
        log.warning("engine not told about %s yet: %s", site.name, error)
        return False
    # Conditional: a pairing that replaced the certificate meanwhile has to be told again.
    known = RemoteSite.objects.filter(pk=site.pk, certificate_pem=site.certificate_pem)
    return bool(known.update(engine_knows=True))


def push_missing() -> int:
    """The leader's part. Returns how many sites the engine learnt."""
    missing = RemoteSite.objects.filter(engine_knows=False).exclude(certificate_pem="")
    return sum(push(site) for site in missing)


def forget(site_uuid: str) -> None:
    """Remove a pin; raises what the engine raised, for data must not be taken from an unpaired site."""
    engine().peer_remove(site_uuid)
