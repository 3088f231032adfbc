# SPDX-License-Identifier: Apache-2.0
"""Orders about the certificates of NBD clients (docs/nbd.md). They touch no disk and no log."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from stargate.control.server import Orders
from stargate.nbd.authority import Authority, Client, DamagedAuthority
from stargate.nbd.server import NbdServer

CLIENT_ORDERS = "nbd_client_"
"""How all of them begin."""
ENDED_SECONDS = 10.0

Json = dict[str, Any]


class ClientOrders(Orders):
    """Called in the threads of control connections."""

    def __init__(self, authority: Authority | DamagedAuthority, server: NbdServer) -> None:
        """With a damaged authority each order raises it."""
        self._found = authority
        self._server = server

    @property
    def _authority(self) -> Authority:
        if isinstance(self._found, DamagedAuthority):
            raise DamagedAuthority(self._found.message, self._found.detail)
        return self._found

    def do_nbd_client_issue(self, name: str, days: int) -> Json:
        issued = self._authority.issue(name, days)
        return {
            "client": _show(issued.client),
            "authority_pem": issued.authority_pem,
            "certificate_pem": issued.certificate_pem,
            "key_pem": issued.key_pem,
        }

    def do_nbd_client_list(self) -> list[Json]:
        return [_show(client) for client in self._authority.clients()]

    def do_nbd_client_revoke(self, name: str) -> Json:
        """Returns when the last connection of it is closed."""
        client = self._authority.revoke(name)
        ended = self._server.disconnect(lambda conn: conn.client == name, after_flush=False)
        return {**_show(client), "disconnected": ended.result(ENDED_SECONDS)}


def _show(client: Client) -> Json:
    state = "revoked" if client.revoked_at else "good" if client.good(time.time()) else "expired"
    return {**asdict(client), "state": state}
