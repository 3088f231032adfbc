# SPDX-License-Identifier: Apache-2.0
"""Browsers that are signed in: listed to their owner, ended one by one or all at once."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone

from prism.core.actor import Actor
from prism.core.exceptions import NotFound
from prism.core.models import SignInSession
from prism.core.services import audit

SEEN_STEP = timedelta(minutes=1)
"""`last_seen_at` is not written more often than this."""


def of(user: User) -> QuerySet[SignInSession]:
    """The open ones of a user, the one seen last first. Rows of sessions that ended by themselves are dropped here."""
    live = Session.objects.filter(expire_date__gt=timezone.now()).values("session_key")
    SignInSession.objects.filter(user=user).exclude(session_key__in=live).delete()
    return SignInSession.objects.filter(user=user)


def seen(session_key: str) -> None:
    """The browser asked for something."""
    now = timezone.now()
    SignInSession.objects.filter(session_key=session_key, last_seen_at__lt=now - SEEN_STEP).update(last_seen_at=now)


def moved(old_key: str, new_key: str) -> None:
    """A change of password gave the same browser another key."""
    SignInSession.objects.filter(session_key=old_key).update(session_key=new_key)


def end(user: User, pk: int, *, actor: Actor) -> None:
    """Sign one browser of `user` out; its next request is a stranger's."""
    row = SignInSession.objects.filter(user=user, pk=pk).first()
    if row is None:
        raise NotFound("This session has ended already.")
    with audit.order("session.end", actor=actor, object_type="user", object_name=user.username) as detail:
        detail["address"] = row.address
        _delete([row.session_key])


def end_all(user: User, *, keep: str | None = None, actor: Actor) -> int:
    """Sign all browsers of `user` out but the one with the key `keep`. Returns how many there were."""
    with audit.order("session.end_all", actor=actor, object_type="user", object_name=user.username) as detail:
        detail["ended"] = drop(user, keep=keep)
    return int(detail["ended"])


def drop(user: User, *, keep: str | None = None) -> int:
    """`end_all` as a part of another order."""
    keys = list(of(user).exclude(session_key=keep or "").values_list("session_key", flat=True))
    _delete(keys)
    return len(keys)


def _delete(keys: list[str]) -> None:
    Session.objects.filter(session_key__in=keys).delete()
    SignInSession.objects.filter(session_key__in=keys).delete()


@receiver(user_logged_in, dispatch_uid="prism.sessions.opened")
def _opened(request: HttpRequest, user: User, **_: object) -> None:
    if request.session.session_key is None:
        request.session.save()
    SignInSession.objects.update_or_create(
        session_key=request.session.session_key,
        defaults={
            "user": user,
            "address": request.META.get("REMOTE_ADDR") or "",
            "agent": request.META.get("HTTP_USER_AGENT", "").replace("\0", "")[:200],
        },
    )


@receiver(user_logged_out, dispatch_uid="prism.sessions.closed")
def _closed(request: HttpRequest, **_: object) -> None:
    """Sent before the session is emptied."""
    SignInSession.objects.filter(session_key=request.session.session_key or "").delete()
