# SPDX-License-Identifier: Apache-2.0
"""The calls that replication itself makes and takes: one dataclass per request and per answer worth checking.

The upper app registers the handlers of `offer_snapshot` and `snapshot_arrived` with these classes, so that both ends
read one schema.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

CERTIFICATE_CHARS_MAX = 16 * 1024


@dataclass(frozen=True)
class Address:
    """Where a site listens. An empty host means: the address the connection came from."""

    host: str
    control_port: int
    data_port: int


@dataclass(frozen=True)
class PairHello:
    """First question of a pairing, without any secret."""


@dataclass(frozen=True)
class PairHelloAnswer:
    """`nonce` is fresh, good for one proof, and forgotten after two minutes."""

    site_uuid: uuid.UUID
    name: str = field(metadata={"max": 75})
    nonce: str = field(metadata={"max": 64})


@dataclass(frozen=True)
class Pair:
    """The asking side proves that it knows the code and sees the same certificates."""

    site_uuid: uuid.UUID
    name: str = field(metadata={"max": 75})
    addresses: list[Address] = field(metadata={"max": 16})
    certificate: str = field(metadata={"max": CERTIFICATE_CHARS_MAX})
    server_nonce: str = field(metadata={"max": 64})
    client_nonce: str = field(metadata={"max": 64})
    proof: str = field(metadata={"max": 64})


@dataclass(frozen=True)
class PairAnswer:
    """The answering side proves the same."""

    site_uuid: uuid.UUID
    addresses: list[Address] = field(metadata={"max": 16})
    name: str = field(metadata={"max": 75})
    proof: str = field(metadata={"max": 64})


@dataclass(frozen=True)
class Nothing:
    """A request without content."""


@dataclass(frozen=True)
class OfferSnapshot:
    """May we send this? `replication` is the key: the same offer again gets the same session."""

    replication: uuid.UUID
    manifest: dict[str, Any]
    retention_seconds: int | None  # from receipt on; None = for ever
    hidden_base: bool  # True: the sender keeps it only as the base of the next one
    bytes: int  # the quota to grant: the sizes of all disks, or twice that when it is sent ahead of its fold
    base: uuid.UUID | None = None  # newest snapshot that the sender believes to be on both sites


@dataclass(frozen=True)
class OfferAnswer:
    """The session of the engine's grant. `complete`: the snapshot is here already, nothing has to be sent."""

    session: str = field(metadata={"max": 64})
    complete: bool = False
    base: uuid.UUID | None = None  # `base` of the offer when it is still here; None = send in full
    fingerprinting: bool = True  # False: the receiving container has it off, so no have-questions


@dataclass(frozen=True)
class SnapshotArrived:
    """The engines are done: publish the snapshot to the domain."""

    snapshot: uuid.UUID
    session: str = field(metadata={"max": 64})


@dataclass(frozen=True)
class WithdrawSnapshot:
    """I shall not send it any more. Repeating it, or withdrawing what was never offered, changes nothing."""

    snapshot: uuid.UUID
    session: str = field(metadata={"max": 64})
    failed: bool  # True: it cannot be sent; False: it was given up (aborted, skipped, expired)
    reason: str = field(metadata={"max": 2000})
