# SPDX-License-Identifier: Apache-2.0
"""Calls to another site: synchronous, over mutual TLS 1.3 with the peer's certificate pinned."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any

from replication.exceptions import PeerRefused, PeerUnreachable
from replication.local import identity, own_address
from replication.models import RemoteSite
from replication.models.remote_site import CONTROL_PORT
from replication.rpc.reach import Connection
from stargate.peer.identity import Peer, PeerSet, certificate_der, client_context

BODY_BYTES_MAX = 4 * 1024 * 1024
"""Largest request and answer: a manifest of a large domain fits."""

TRUST_DELAY_SECONDS = 1.0
"""A server learns a new pin within half of this (see `cerebro.server`)."""


class Distrusted(PeerRefused):
    """The peer's TLS turned our certificate down."""

    def __init__(self, who: str) -> None:
        message = f"{who} does not know this site's certificate: the sites are not paired."
        super().__init__("not_paired", message, "It may have been unpaired there: pair again.")


def call(site: RemoteSite, name: str, payload: Mapping[str, Any], timeout: float = 10.0) -> dict[str, Any]:
    """Order `name` at `site` and return its answer. `timeout` (seconds) bounds each wait on the socket.

    Addresses are tried in order. Raises `PeerUnreachable` (retry later; the call may have been executed) or
    `PeerRefused` (do not retry).
    """
    if not site.is_paired or site.site_uuid is None:
        raise PeerRefused("not_paired", f"The remote site {site.name} is not paired.", "Pair the two sites first.")
    body = encode_body(payload)
    try:
        return _call_addresses(site, name, body, timeout)
    except Distrusted:
        # Just paired: the server over there may not have read its new pin yet.
        time.sleep(TRUST_DELAY_SECONDS)
    return _call_addresses(site, name, body, timeout)


def _call_addresses(site: RemoteSite, name: str, body: bytes, timeout: float) -> dict[str, Any]:
    context = _pinned_context(site)
    last: PeerUnreachable | None = None
    for address in site.addresses:
        connection = connect(address, context, timeout)
        try:
            connection.connect()
            _check_pin(connection, site)
            return exchange(connection, name, body, site.name)
        except PeerUnreachable as error:
            last = error
        except ssl.SSLCertVerificationError as error:
            raise _wrong_certificate(site) from error
        except ssl.SSLError as error:
            last = PeerUnreachable(f"{site.name} does not speak TLS 1.3 at {address['host']}: {error.reason}.")
        except OSError as error:
            last = PeerUnreachable(f"{site.name} does not answer at {address['host']}: {error}.")
        finally:
            connection.close()
    raise last or PeerUnreachable(f"The remote site {site.name} has no address.", "Enter one in Update.")


def _pinned_context(site: RemoteSite) -> ssl.SSLContext:
    key = str(site.site_uuid)
    return client_context(identity(), PeerSet([Peer(key, site.certificate_pem)]), key)


def _check_pin(connection: http.client.HTTPSConnection, site: RemoteSite) -> None:
    if peer_der(connection) != certificate_der(site.certificate_pem):
        raise _wrong_certificate(site)


def _wrong_certificate(site: RemoteSite) -> PeerRefused:
    return PeerRefused(
        "wrong_certificate",
        f"What answers at the address of {site.name} is not the site that was paired (another certificate).",
        "If that site was set up anew, remove it and pair again; otherwise somebody is in between.",
    )


def connect(address: Mapping[str, Any], context: ssl.SSLContext, timeout: float) -> http.client.HTTPSConnection:
    """A connection object, not opened yet; opening it raises `PeerUnreachable` where no site may be."""
    port = int(address.get("control_port") or CONTROL_PORT)
    return Connection(str(address["host"]), port, timeout=timeout, context=context, own=own_address())


def peer_der(connection: http.client.HTTPSConnection) -> bytes:
    """The certificate the other end proved to own; raises `PeerUnreachable` when the connection is gone."""
    sock = connection.sock
    der = sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None
    if not der:
        raise PeerUnreachable("The other site closed the connection during the handshake.")
    return bytes(der)


def encode_body(payload: Mapping[str, Any]) -> bytes:
    """JSON of a request; raises `PeerRefused` when no peer would take it."""
    body = json.dumps(payload, separators=(",", ":"), default=str).encode()
    if len(body) > BODY_BYTES_MAX:
        raise PeerRefused(
            "too_large", "The request is larger than the other site accepts.", "Split the protection domain."
        )
    return body


def exchange(connection: http.client.HTTPSConnection, name: str, body: bytes, who: str) -> dict[str, Any]:
    """One request on an open connection; `who` names the peer in errors."""
    try:
        connection.request("POST", f"/rpc/v1/{name}", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        raw = response.read(BODY_BYTES_MAX + 1)
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            raise Distrusted(who) from error
        raise PeerUnreachable(f"The connection to {who} broke: {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        raise PeerUnreachable(f"The connection to {who} broke: {error}.") from error
    return _answer(response.status, raw, who)


def _answer(status: int, raw: bytes, who: str) -> dict[str, Any]:
    try:
        value = json.loads(raw) if len(raw) <= BODY_BYTES_MAX else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise PeerUnreachable(f"{who} answered something that is not ours (HTTP {status}).")
    if status == 200:
        return value
    error = value.get("error")
    found = error if isinstance(error, dict) else {}
    message = str(found.get("message") or f"HTTP {status}")[:2000]
    if status >= 500:
        raise PeerUnreachable(f"{who} could not carry it out: {message}")
    raise PeerRefused(
        str(found.get("code") or "refused")[:64], f"{who} refused: {message}", str(found.get("next_step") or "")[:2000]
    )
