# SPDX-License-Identifier: Apache-2.0
"""Accounts of the console."""

from __future__ import annotations

import secrets

from django.contrib.auth import password_validation
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

from prism.core.actor import Actor
from prism.core.exceptions import InvalidInput
from prism.core.services import audit


def create(*, username: str, password: str, superuser: bool = False, actor: Actor) -> User:
    """A new account. Superusers see the admin pages as well."""
    with audit.order("user.create", actor=actor, object_type="user", object_name=username):
        if User.objects.filter(username=username).exists():
            raise InvalidInput("username", f"There is already a user named {username}.", "Choose another name.")
        user = User(username=username, is_staff=superuser, is_superuser=superuser)
        _set_password(user, password)
        user.save()
    return user


def ensure_admin(*, username: str = "admin", actor: Actor) -> tuple[User, str | None]:
    """The first superuser, and its generated password; None as password when the user was there already."""
    known = User.objects.filter(username=username).first()
    if known is not None:
        return known, None
    password = secrets.token_urlsafe(12)
    return create(username=username, password=password, superuser=True, actor=actor), password


def set_password(user: User, *, password: str, actor: Actor) -> None:
    with audit.order("user.set_password", actor=actor, object_type="user", object_name=user.username):
        _set_password(user, password)
        user.save(update_fields=["password"])


def _set_password(user: User, password: str) -> None:
    try:
        password_validation.validate_password(password, user)
    except ValidationError as error:
        raise InvalidInput("password", " ".join(error.messages)) from error
    user.set_password(password)
