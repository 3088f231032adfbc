# SPDX-License-Identifier: Apache-2.0
"""Pairing proofs: pure functions over a one-time code that one operator reads to another.

Both ends prove that they know the code *and* see the same two certificates and nonces. A man in the middle who relays
with his own certificate makes the two transcripts differ, and without the code he cannot make a proof for the one he
wants. The code has 80 random bits, so a proof gives nothing to guess from within its life of minutes; the caller limits
attempts and uses it once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Literal

from stargate.errors import InvalidArgument

Role = Literal["server", "client"]
"""`server` showed the code and answers; `client` typed it in and asks."""

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Base 32 without I, L, O, U (Crockford): safe to read aloud."""

CODE_CHARS = 16
_GROUP = 4
_READ_AS = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})

NONCE_BYTES = 32
PROOF_BYTES = 32
_LABEL = b"prism-pairing-1"


@dataclass(frozen=True, slots=True)
class Nonces:
    """One fresh random value of each side, so that a proof is good for one conversation only."""

    server: bytes
    client: bytes


def new_nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


def new_code() -> str:
    """A one-time code of 80 bits, such as `7F3K-0QWX-9ABD-MZ42`."""
    text = "".join(secrets.choice(ALPHABET) for _ in range(CODE_CHARS))
    return "-".join(text[i : i + _GROUP] for i in range(0, CODE_CHARS, _GROUP))


def normalise_code(typed: str) -> str:
    """The 16 symbols of a typed code (case, spaces, dashes, O/I/L forgiven); raises InvalidArgument when it cannot be
    one.
    """
    text = typed[:64].strip().upper().translate(_READ_AS)
    if len(text) != CODE_CHARS or any(c not in ALPHABET for c in text):
        raise InvalidArgument(
            "a pairing code has four groups of four letters or digits; read it again on the other site"
        )
    return text


def pairing_key(code: str) -> bytes:
    """The HMAC key of a code. The side that shows the code keeps this (not the code) until it is used or expires."""
    return hashlib.sha256(_LABEL + b"\0key\0" + normalise_code(code).encode("ascii")).digest()


def pairing_proof(code: str, role: Role, server_fingerprint: str, client_fingerprint: str, nonces: Nonces) -> bytes:
    """HMAC-SHA256 of `role` over the whole transcript; raises InvalidArgument for a malformed code or nonce."""
    return pairing_proof_from_key(pairing_key(code), role, server_fingerprint, client_fingerprint, nonces)


def pairing_proof_from_key(
    key: bytes, role: Role, server_fingerprint: str, client_fingerprint: str, nonces: Nonces
) -> bytes:
    """As `pairing_proof`, from the stored `pairing_key`."""
    if len(nonces.server) != NONCE_BYTES or len(nonces.client) != NONCE_BYTES:
        raise InvalidArgument("a pairing nonce has the wrong length; start the pairing again")
    mac = hmac.new(key, digestmod=hashlib.sha256)
    parts = (
        _LABEL,
        role.encode(),
        server_fingerprint.encode(),
        client_fingerprint.encode(),
        nonces.server,
        nonces.client,
    )
    for part in parts:
        mac.update(len(part).to_bytes(4, "big"))
        mac.update(part)
    return mac.digest()


def proof_matches(expected: bytes, received: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(expected, received)
