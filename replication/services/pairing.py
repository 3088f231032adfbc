# SPDX-License-Identifier: Apache-2.0
"""Pairing: how two sites come to pin each other's certificate.

    site A                                     site B
    start_pairing -> one-time code  --operator reads it out-->  pair(host, code)
                                    <--  pair_hello
    nonce                           -->
                                    <--  pair: B's certificate, proof over (code, both certificates, both nonces)
    checks, stores B, proof         -->  checks, stores A

The connection is TLS without any pin yet; each proof covers the certificate its maker *sees* on it, so somebody in
between can neither pass one on nor make one. The table keeps the code's hash, which is the key of the proofs, and
its attempts and use; nonces lie in Redis for two minutes. Three wrong proofs close a code. A new code replaces the
older one: at most one is open, and what is in the table is worthless after ten minutes. When the
answer to `pair` is lost, A knows B and not yet the other way round: B's operator repeats the order with the same code
and gets the same answer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from prism.core.actor import Actor
from prism.core.exceptions import PermissionRefused
from prism.core.services import audit
from replication.exceptions import PeerRefused, PeerUnreachable
from replication.local import identity, local_site
from replication.models import PairingCode, RemoteSite
from replication.models.pairing import PAIRING_ATTEMPTS_MAX, PAIRING_SECONDS
from replication.rpc import client
from replication.rpc.messages import Pair
from replication.services import engine_peers, notices, site_rows
from replication.services.pairing_wire import as_nonces, from_hex, peer_fingerprint
from stargate.peer.pairing import new_code, new_nonce, pairing_key, pairing_proof_from_key, proof_matches

NONCE_SECONDS = 120
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class PairingOffer:
    """What the operator reads out. The code is not shown again."""

    code: str
    expires_at: datetime
    fingerprint: str


def start_pairing(*, actor: Actor) -> PairingOffer:
    """Open this site for one other site, for ten minutes."""
    code, now = new_code(), timezone.now()
    expires_at = now + timedelta(seconds=PAIRING_SECONDS)
    with audit.order("remote_site.start_pairing", actor=actor, object_type="remote_site"):
        PairingCode.objects.all().delete()
        PairingCode.objects.create(code_hash=pairing_key(code).hex(), created_at=now, expires_at=expires_at)
    return PairingOffer(code, expires_at, identity().fingerprint)


def hello() -> dict[str, Any]:
    """Answer of `pair_hello`: who we are, and a nonce that is good for one proof."""
    site, nonce = local_site(), new_nonce().hex()
    cache.set(_nonce_key(nonce), True, NONCE_SECONDS)
    return {"site_uuid": site.uuid, "name": site.name, "nonce": nonce}


def answer(request: Pair, *, address: str) -> dict[str, Any]:
    """Answer of `pair`, to a caller whom nothing but the proof identifies. Raises `Refused`."""
    actor = Actor.peer(request.name, address)
    with audit.order(
        "remote_site.pair", actor=actor, object_type="remote_site", object_name=request.name, atomic=False
    ) as detail:
        other = peer_fingerprint(request.certificate)
        detail["fingerprint"] = other
        code = _open_code(other)
        key = _check_proof(code, request, other)
        with transaction.atomic():
            _use(code, other)
            site = site_rows.paired(
                site_uuid=request.site_uuid,
                name=site_rows.checked_name(request.name),
                addresses=_reachable([asdict(entry) for entry in request.addresses], address),
                certificate_pem=request.certificate,
                own_fingerprint=identity().fingerprint,
            )
            notices.site_event(site, "paired")
    engine_peers.push(site)
    own, here = identity().fingerprint, local_site()
    proof = pairing_proof_from_key(key, "server", own, other, as_nonces(request.server_nonce, request.client_nonce))
    return {"site_uuid": here.uuid, "name": here.name, "addresses": here.addresses(), "proof": proof.hex()}


def _open_code(other: str) -> PairingCode:
    mine = Q(used_at=None) | Q(used_by_fingerprint=other)
    code = PairingCode.objects.filter(mine, expires_at__gt=timezone.now(), attempts__lt=PAIRING_ATTEMPTS_MAX).first()
    if code is None:
        raise PermissionRefused(
            "no_pairing_code",
            "No pairing code is open on that site: it expired, was used, or was entered wrongly three times.",
            "Show a new code there and enter that one.",
        )
    return code


def _check_proof(code: PairingCode, request: Pair, other: str) -> bytes:
    """The code's key when the proof is right. A wrong one is counted, whoever sent it."""
    key = bytes.fromhex(code.code_hash)
    if cache.delete(_nonce_key(request.server_nonce)):
        nonces = as_nonces(request.server_nonce, request.client_nonce)
        expected = pairing_proof_from_key(key, "client", identity().fingerprint, other, nonces)
        if proof_matches(expected, from_hex(request.proof)):
            return key
    PairingCode.objects.filter(pk=code.pk).update(attempts=F("attempts") + 1)
    raise PermissionRefused(
        "wrong_pairing_code",
        "The pairing code is wrong, or somebody between the sites changed the connection.",
        f"Read the code again; after {PAIRING_ATTEMPTS_MAX} wrong ones it is closed.",
    )


def _use(code: PairingCode, other: str) -> None:
    mine = PairingCode.objects.filter(Q(used_at=None) | Q(used_by_fingerprint=other), pk=code.pk)
    if not mine.update(used_at=timezone.now(), used_by_fingerprint=other):
        raise PermissionRefused(
            "no_pairing_code", "That pairing code was just used by another site.", "Show a new code."
        )


def _reachable(addresses: list[dict[str, Any]], seen: str) -> list[dict[str, Any]]:
    """A peer that listens on all its addresses sends an empty host: it is where the connection came from."""
    return site_rows.checked_addresses([{**entry, "host": entry["host"] or seen} for entry in addresses])


def unpaired_by_peer(site: RemoteSite, *, address: str) -> None:
    """The other site has ended the pairing."""
    with audit.order(
        "remote_site.unpair", actor=Actor.peer(site.name, address), object_type="remote_site", object_name=site.name
    ):
        _forget(site)


def unpair(site: RemoteSite, *, actor: Actor) -> RemoteSite:
    """End the pairing here, and there if it answers. Nothing is sent or taken until the sites are paired again."""
    with audit.order("remote_site.unpair", actor=actor, object_type="remote_site", object_name=site.name) as detail:
        if site.is_paired:
            try:
                client.call(site, "unpair", {}, TIMEOUT_SECONDS)
            except (PeerUnreachable, PeerRefused) as error:
                detail["peer"] = error.message  # it finds out at its next call
            _forget(site)
    return site


def _forget(site: RemoteSite) -> None:
    if site.is_paired:
        engine_peers.forget(str(site.site_uuid))
    site_rows.unpaired(site)
    notices.site_event(site, "unpaired")


def _nonce_key(nonce: str) -> str:
    return f"pairing-nonce:{nonce}"
