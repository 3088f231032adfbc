# SPDX-License-Identifier: Apache-2.0
"""Getting in and being kept out: what sign-ins leave in the audit, and how a lock is taken off."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from axes.handlers.proxy import AxesProxyHandler
from axes.signals import user_locked_out
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from prism.core.actor import Actor
from prism.core.choices import ActorSource, Outcome
from prism.core.exceptions import InvalidInput
from prism.core.services import audit
from prism.core.services.limits import locked_until

TOKEN_NAME = "(API token)"
"""Stands for the name where a token was wrong."""
NAME_CHARACTERS_MAX = 150


def succeeded(request: HttpRequest, user: User, *, second_factor: str = "") -> None:
    """The audit row of a sign-in. `second_factor`: "code", "recovery code" or "" when the account has none."""
    actor = Actor.from_user(user, source=ActorSource.CONSOLE, address=_address(request))
    detail = {"second_factor": second_factor} if second_factor else {}
    audit.record("user.sign_in", actor=actor, object_type="user", object_name=user.username, detail=detail)


def failed(request: HttpRequest, username: str) -> None:
    """Count a failure that no password was part of: a wrong code."""
    user_login_failed.send(__name__, credentials={"username": username}, request=_bare(request))


def token_failed(request: HttpRequest) -> datetime | None:
    """Count a wrong token. Until when wrong ones from this address are refused without a count; None: this one counted.

    A token cannot be guessed: the limit spares the database and the audit. Right tokens are never refused, so that
    nobody behind the same address can stop a program by sending wrong ones.
    """
    until = locked_until(request, TOKEN_NAME)
    if until is None:
        failed(request, TOKEN_NAME)
    return until


def unlock(*, username: str = "", address: str = "", actor: Actor) -> int:
    """Forget the failures of a name, of an address, or (both given) of the pair. Returns how many were kept."""
    with audit.order("user.unlock", actor=actor, object_type="user", object_name=username) as detail:
        if not username and not address:
            raise InvalidInput("username", "Say whose failures to forget: a name, an address, or both.")
        forgotten = int(AxesProxyHandler.reset_attempts(username=username or None, ip_address=address or None))
        detail.update({"address": address} if address else {}, forgotten=forgotten)
    return forgotten


@receiver(user_login_failed, dispatch_uid="prism.signins.refused")
def _refused(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """One row per counted failure; a locked-out caller leaves none, so that nobody fills the audit."""
    if request is not None and not getattr(request, "axes_locked_out", False):
        _record("user.sign_in", request, str(credentials.get("username") or ""), {})


@receiver(user_locked_out, dispatch_uid="prism.signins.locked")
def _locked(request: HttpRequest, username: str | None, **_: Any) -> None:
    """Sent at the failure that locks, and without a count at every try while it holds: only the first leaves a row."""
    failures = getattr(request, "axes_failures_since_start", None)
    until = locked_until(request, username or "")
    if failures is not None and until is not None:
        detail = {"failures": failures, "until": until.isoformat(timespec="seconds")}
        _record("user.lock_out", request, username or "", detail)


def _record(verb: str, request: HttpRequest, username: str, detail: dict[str, Any]) -> None:
    source = ActorSource.API if request.path.startswith("/api/") else ActorSource.CONSOLE
    name = username[:NAME_CHARACTERS_MAX].replace("\0", "")
    actor = Actor(label="anonymous", source=source, address=_address(request))
    audit.record(verb, actor=actor, outcome=Outcome.REFUSED, object_type="user", object_name=name, detail=detail)


def _address(request: HttpRequest) -> str:
    return request.META.get("REMOTE_ADDR") or ""


def _bare(request: HttpRequest) -> HttpRequest:
    """The same caller without a body: counting a failure must not read what a stranger uploads."""
    bare = HttpRequest()
    bare.META, bare.path = request.META, request.path
    return bare
