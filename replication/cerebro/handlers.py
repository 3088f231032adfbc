# SPDX-License-Identifier: Apache-2.0
"""The calls that replication itself answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from prism.core.engine import engine
from prism.core.exceptions import Unreachable
from replication.local import local_site
from replication.rpc import registry
from replication.rpc.messages import Nothing, Pair, PairHello, WithdrawSnapshot
from replication.rpc.registry import PeerCall
from replication.selectors import current_term
from replication.services import incoming, pairing
from stargate.errors import StargateError

PROTOCOL = 1
"""Version of the calls; a peer with another one is told so by `ping`."""


@dataclass(frozen=True)
class OpenCall:
    """A call that needs no pinned certificate: its handler gets the payload and the caller's address."""

    payload: type[Any]
    handler: Callable[[Any, str], dict[str, Any]]


OPEN: dict[str, OpenCall] = {
    "pair_hello": OpenCall(PairHello, lambda _payload, _address: pairing.hello()),
    "pair": OpenCall(Pair, lambda payload, address: pairing.answer(payload, address=address)),
}


def ping(_call: PeerCall, _payload: Nothing) -> dict[str, Any]:
    """Who we are and how we do. `free_bytes` is None while the engine does not answer."""
    here = local_site()
    try:
        free: int | None = int(engine().usage()["free_bytes"])
    except (StargateError, Unreachable, KeyError):
        free = None
    return {
        "site_uuid": here.uuid,
        "name": here.name,
        "protocol": PROTOCOL,
        "time": timezone.now().isoformat(),
        "free_bytes": free,
        "term": current_term(),
    }


def unpair(call: PeerCall, _payload: Nothing) -> dict[str, Any]:
    """The caller ends the pairing."""
    pairing.unpaired_by_peer(call.site, address=call.address)
    return {}


def withdraw_snapshot(call: PeerCall, payload: WithdrawSnapshot) -> dict[str, Any]:
    """The sender gave up what it had offered: its session ends, and the row says why."""
    row = incoming.find(call.site, payload.session)
    if row is not None and row.snapshot_uuid == payload.snapshot:
        engine().grant_end(payload.session)
        incoming.withdrawn(row, payload.reason, failed=payload.failed)
    return {}


def register() -> None:
    """From `AppConfig.ready`."""
    registry.register("ping", Nothing, ping)
    registry.register("unpair", Nothing, unpair)
    registry.register("withdraw_snapshot", WithdrawSnapshot, withdraw_snapshot)
