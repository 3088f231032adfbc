# SPDX-License-Identifier: Apache-2.0
"""Who gives an order, and through which door."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from prism.core.choices import ActorSource


@dataclass(frozen=True)
class Actor:
    """The orderer of a verb. `user` is None for the system, a peer or the command line; `address` is "" when local."""

    label: str
    source: str
    user: AbstractBaseUser | None = None
    address: str = ""

    @classmethod
    def from_user(cls, user: AbstractBaseUser | AnonymousUser, *, source: str, address: str = "") -> Actor:
        """For a request of a signed-in user."""
        known = user if isinstance(user, AbstractBaseUser) else None
        return cls(label=known.get_username() if known else "anonymous", source=source, user=known, address=address)

    @classmethod
    def task(cls, label: str) -> Actor:
        """For work that a worker or the leader does on the system's own account."""
        return cls(label=label, source=ActorSource.TASK)

    @classmethod
    def cli(cls, label: str = "command line") -> Actor:
        return cls(label=label, source=ActorSource.CLI)

    @classmethod
    def peer(cls, site_name: str, address: str = "") -> Actor:
        return cls(label=site_name, source=ActorSource.PEER, address=address)
