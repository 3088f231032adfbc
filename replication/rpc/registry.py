# SPDX-License-Identifier: Apache-2.0
"""Which calls another site may make. The upper app registers its handlers here, in `AppConfig.ready`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any, Generic, TypeVar

from replication.models import RemoteSite

_NAME = re.compile(r"[a-z][a-z_]{0,39}")

P = TypeVar("P")


@dataclass(frozen=True)
class PeerCall:
    """Who is calling. The certificate has been checked against the pinned one of `site`."""

    site: RemoteSite
    address: str  # of the connection, for the audit row


@dataclass(frozen=True)
class Rpc(Generic[P]):
    """A registered call."""

    name: str
    payload: type[P]
    handler: Callable[[PeerCall, P], dict[str, Any]]


_calls: dict[str, Rpc[Any]] = {}


def register(name: str, payload: type[P], handler: Callable[[PeerCall, P], dict[str, Any]]) -> None:
    """Offer `handler` to paired sites as `POST /rpc/v1/<name>`.

    `payload` is a dataclass: its annotations are the schema (see `rpc.schema`). The handler runs in a worker
    thread with a database connection, must be idempotent (a peer repeats a call whose answer was lost), returns a
    JSON object, and raises `Refused` to refuse.
    Registering a name twice with another handler is a programming error.
    """
    if not _NAME.fullmatch(name) or not is_dataclass(payload):
        raise ValueError(f"rpc {name!r}: the name is [a-z_], the payload a dataclass")
    known = _calls.get(name)
    if known is not None and known.handler is not handler:
        raise ValueError(f"rpc {name!r} is registered twice")
    _calls[name] = Rpc(name, payload, handler)


def find(name: str) -> Rpc[Any] | None:
    """The call of that name; None when no app offers it."""
    return _calls.get(name)


def names() -> list[str]:
    """All offered calls, sorted."""
    return sorted(_calls)
