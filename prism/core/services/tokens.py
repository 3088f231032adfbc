# SPDX-License-Identifier: Apache-2.0
"""Tokens of API clients: shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db.models import F, Q
from django.utils import timezone

from prism.core.actor import Actor
from prism.core.exceptions import InvalidInput
from prism.core.models import ApiToken
from prism.core.services import audit

MARK = "prism_"
PREFIX_CHARS = len(MARK) + 6
LAST_USED_STEP = timedelta(minutes=1)
"""`last_used_at` is not written more often than this, so that a busy client costs no write per request."""


def create(*, user: User, name: str, expires_at: datetime | None = None, actor: Actor) -> tuple[ApiToken, str]:
    """A new token and its text, which is never shown again. `expires_at` None = valid until revoked."""
    with audit.order("token.create", actor=actor, object_type="token", object_name=name):
        if not name or len(name) > 75:
            raise InvalidInput("name", "A token name has 1 to 75 characters.")
        if expires_at is not None and expires_at <= timezone.now():
            raise InvalidInput("expires_at", "The token would expire before it is made.", "Choose a later time.")
        if ApiToken.objects.filter(user=user, name=name).exists():
            raise InvalidInput("name", f"You already have a token named {name}.", "Choose another name.")
        text = MARK + secrets.token_urlsafe(32)
        token = ApiToken.objects.create(
            user=user, name=name, token_hash=_hash(text), prefix=text[:PREFIX_CHARS], expires_at=expires_at
        )
    return token, text


def verify(text: str) -> ApiToken | None:
    """The live token with this text, its user loaded; None when unknown, expired, revoked, or its user is disabled."""
    now = timezone.now()
    token = (
        ApiToken.objects.select_related("user")
        .filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True, user__is_active=True)
        .filter(token_hash=_hash(text))
        .first()
    )
    if token is not None and (token.last_used_at is None or now - token.last_used_at > LAST_USED_STEP):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def revoke(token: ApiToken, *, actor: Actor) -> ApiToken:
    """The token stops working at once. Revoking twice changes nothing."""
    with audit.order("token.revoke", actor=actor, object_type="token", object_name=token.name):
        # A revoked name may be used again, so the row moves out of the way.
        ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(
            revoked_at=timezone.now(), name=F("prefix")
        )
        token.refresh_from_db()
    return token


def _hash(text: str) -> str:
    """Plain SHA-256 is enough: the text has 256 random bits."""
    return hashlib.sha256(text.encode()).hexdigest()
