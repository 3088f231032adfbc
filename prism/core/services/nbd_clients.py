# SPDX-License-Identifier: Apache-2.0
"""Certificates of NBD clients: made by the block engine, handed out once, revoked in one step. See docs/nbd.md."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prism.core.actor import Actor
from prism.core.engine import engine
from prism.core.exceptions import InvalidInput, NotFound
from prism.core.services import audit
from stargate.errors import AlreadyExists, InvalidArgument
from stargate.errors import NotFound as NoSuchClient

DAYS_DEFAULT = 365


@dataclass(frozen=True)
class NbdClient:
    """`state` is good, expired or revoked; `fingerprint` is the SHA-256 of the certificate in hex."""

    name: str
    state: str
    fingerprint: str
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class Credentials:
    """What a client needs, as PEM text by file name. The key is nowhere else."""

    client: NbdClient
    files: dict[str, str]


def clients() -> list[NbdClient]:
    """All ever issued, newest first. Raises what an engine that does not answer raises."""
    return [_client(row) for row in reversed(engine().nbd_client_list())]


def issue(*, name: str, days: int = DAYS_DEFAULT, actor: Actor) -> Credentials:
    """A new client, who may open every disk of this site over TLS."""
    with audit.order("nbd_client.issue", actor=actor, object_type="nbd_client", object_name=name) as detail:
        detail["days"] = days
        try:
            made = engine().nbd_client_issue(name, days)
        except (AlreadyExists, InvalidArgument) as error:
            field = "days" if "days" in error.message else "name"
            raise InvalidInput(field, error.message) from error
        detail["fingerprint"] = made["client"]["fingerprint"]
    files = {
        "ca-cert.pem": made["authority_pem"],
        "client-cert.pem": made["certificate_pem"],
        "client-key.pem": made["key_pem"],
    }
    return Credentials(_client(made["client"]), files)


def revoke(name: str, *, actor: Actor) -> NbdClient:
    """It opens nothing from now on; its open connections are ended."""
    with audit.order("nbd_client.revoke", actor=actor, object_type="nbd_client", object_name=name) as detail:
        try:
            revoked = engine().nbd_client_revoke(name)
        except NoSuchClient as error:
            raise NotFound(error.message) from error
        detail["disconnected"] = revoked["disconnected"]
    return _client(revoked)


def _client(row: dict[str, Any]) -> NbdClient:
    return NbdClient(
        name=row["name"],
        state=row["state"],
        fingerprint=row["fingerprint"],
        issued_at=datetime.fromtimestamp(row["issued_at"], UTC),
        expires_at=datetime.fromtimestamp(row["expires_at"], UTC),
        revoked_at=datetime.fromtimestamp(row["revoked_at"], UTC) if row["revoked_at"] else None,
    )
