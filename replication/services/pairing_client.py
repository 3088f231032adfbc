# SPDX-License-Identifier: Apache-2.0
"""The asking side of a pairing. The order of things is in `services.pairing`."""

from __future__ import annotations

import ssl
from contextlib import closing
from typing import Any

from django.db import transaction

from prism.core.actor import Actor
from prism.core.exceptions import InvalidInput
from prism.core.services import audit
from replication.exceptions import PeerRefused, PeerUnreachable
from replication.local import identity, local_site
from replication.models import RemoteSite
from replication.rpc import client, schema
from replication.rpc.messages import PairAnswer, PairHelloAnswer
from replication.services import engine_peers, notices, site_rows
from replication.services.pairing_wire import as_nonces, from_hex, peer_fingerprint
from stargate.errors import InvalidArgument
from stargate.peer.pairing import (
    new_nonce,
    normalise_code,
    pairing_proof,
    proof_matches,
)

TIMEOUT_SECONDS = 10.0


def pair(*, host: str, code: str, actor: Actor, control_port: int = 2020) -> RemoteSite:
    """Pair with the site that shows `code` at `host`.

    Afterwards both sites have a row, a pin and the same `pairing_fingerprint`. Raises
    `InvalidInput`, `PeerUnreachable` or `PeerRefused`; then nothing is stored here.
    """
    with audit.order(
        "remote_site.pair", actor=actor, object_type="remote_site", object_name=host, atomic=False
    ) as detail:
        typed = _normalised(code)
        (address,) = site_rows.checked_addresses([{"host": host, "control_port": control_port}])
        certificate, found = _talk(address, typed)
        with transaction.atomic():
            site = site_rows.paired(
                site_uuid=found.site_uuid,
                name=found.name,
                addresses=[{**address, "data_port": found.addresses[0].data_port}],
                certificate_pem=certificate,
                own_fingerprint=identity().fingerprint,
            )
            notices.site_event(site, "paired")
        detail["fingerprint"] = site.fingerprint
    engine_peers.push(site)
    return site


def _normalised(code: str) -> str:
    try:
        return normalise_code(code)
    except InvalidArgument as error:
        raise InvalidInput("code", f"{error.message[:1].upper()}{error.message[1:]}.") from error


def _talk(address: dict[str, Any], code: str) -> tuple[str, PairAnswer]:
    """Both questions on one connection: the certificate that `pair_hello` showed is the one the proofs are about."""
    here, own = local_site(), identity()
    with closing(client.connect(address, _unpinned_context(), TIMEOUT_SECONDS)) as connection:
        try:
            connection.connect()
        except OSError as error:
            raise PeerUnreachable(
                f"Nothing answers at {address['host']}:{address['control_port']}: {error}."
            ) from error
        certificate = ssl.DER_cert_to_PEM_cert(client.peer_der(connection))
        other = peer_fingerprint(certificate)
        first = _decoded(PairHelloAnswer, client.exchange(connection, "pair_hello", b"{}", address["host"]))
        nonces = as_nonces(first.nonce, new_nonce().hex())
        request = {
            "site_uuid": here.uuid,
            "name": here.name,
            "addresses": here.addresses(),
            "certificate": own.certificate_pem,
            "server_nonce": nonces.server.hex(),
            "client_nonce": nonces.client.hex(),
            "proof": pairing_proof(code, "client", other, own.fingerprint, nonces).hex(),
        }
        found = _decoded(PairAnswer, client.exchange(connection, "pair", client.encode_body(request), address["host"]))
    expected = pairing_proof(code, "server", other, own.fingerprint, nonces)
    if not proof_matches(expected, from_hex(found.proof)) or not found.addresses:
        raise PeerRefused(
            "wrong_proof", "The other site could not prove that it knows the code.", "Is the address right?"
        )
    return certificate, found


def _unpinned_context() -> ssl.SSLContext:
    """TLS 1.3 that checks nothing: only for the two questions of a pairing, whose proofs cover the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _decoded(cls: type[Any], value: dict[str, Any]) -> Any:
    try:
        return schema.decode(cls, value)
    except schema.SchemaError as error:
        raise PeerRefused("peer_protocol", f"The other site does not speak our pairing: {error}.") from error
