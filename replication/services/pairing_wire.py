# SPDX-License-Identifier: Apache-2.0
"""What both sides of a pairing do with the other's bytes."""

from __future__ import annotations

from prism.core.exceptions import InvalidInput
from replication.local import identity
from stargate.errors import InvalidArgument
from stargate.peer.identity import fingerprint
from stargate.peer.pairing import NONCE_BYTES, Nonces


def peer_fingerprint(certificate_pem: str) -> str:
    """Fingerprint of the other site's certificate; raises `InvalidInput` when it is none, or our own."""
    try:
        found = fingerprint(certificate_pem)
    except InvalidArgument as error:
        raise InvalidInput("certificate", error.message) from error
    if found == identity().fingerprint:
        raise InvalidInput("host", "A site cannot be paired with itself.", "Enter the address of the other site.")
    return found


def as_nonces(server: str, client_nonce: str) -> Nonces:
    return Nonces(
        server=from_hex(server).ljust(NONCE_BYTES, b"\0")[:NONCE_BYTES],
        client=from_hex(client_nonce).ljust(NONCE_BYTES, b"\0")[:NONCE_BYTES],
    )


def from_hex(text: str) -> bytes:
    """Bytes of a peer's hex; nonsense becomes empty, which no proof matches."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
