# SPDX-License-Identifier: Apache-2.0
"""Accounts of the console."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.contrib.auth import password_validation
from django.contrib.auth.models import User
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.utils import timezone

from prism.core.actor import Actor
from prism.core.exceptions import Conflict, InvalidInput
from prism.core.models import Account
from prism.core.services import audit, sessions
from prism.core.services.roles import Role, put_role, role_of

ONE_TIME_HOURS = 24
ONE_TIME_BYTES = 12
NAME_CHARACTERS_MAX = 150


def create(*, username: str, password: str, superuser: bool = False, actor: Actor) -> User:
    """A new account with a password of its own. Superusers see the admin pages as well."""
    with audit.order("user.create", actor=actor, object_type="user", object_name=username):
        user = _made(username, Role.ADMIN if superuser else Role.VIEWER)
        _set_password(user, password)
        user.save()
    return user


def invite(*, username: str, role: str, actor: Actor) -> tuple[User, str]:
    """A new account and its one-time password, which is shown once and must be changed at the first sign-in."""
    with audit.order("user.create", actor=actor, object_type="user", object_name=username) as detail:
        detail["role"] = _role(role).value
        user = _made(username, role)
        password = _one_time(user)
    return user, password


def ensure_admin(*, username: str = "admin", actor: Actor) -> tuple[User, str | None]:
    """The first superuser, and its generated password; None as password when the user was there already."""
    known = User.objects.filter(username=username).first()
    if known is not None:
        return known, None
    password = secrets.token_urlsafe(12)
    return create(username=username, password=password, superuser=True, actor=actor), password


def set_password(user: User, *, password: str, actor: Actor) -> None:
    """A lasting password. Sessions of the user end by themselves: they are bound to the old one."""
    with audit.order("user.set_password", actor=actor, object_type="user", object_name=user.username):
        _set_password(user, password)
        user.save(update_fields=["password"])
        values = {"one_time_until": None, "password_changed_at": timezone.now()}
        Account.objects.update_or_create(user=user, defaults=values)


def reset_password(user: User, *, actor: Actor) -> str:
    """A one-time password in place of a forgotten one; all sessions of the user end. Shown once."""
    with audit.order("user.reset_password", actor=actor, object_type="user", object_name=user.username) as detail:
        if actor.user is not None and actor.user.pk == user.pk:
            raise Conflict("own_account", "This is your own account.", "Change your password on your account's page.")
        password = _one_time(user)
        detail["sessions_ended"] = sessions.drop(user)
    return password


def set_role(user: User, role: str, *, actor: Actor) -> User:
    """Holds from the next request on, for open sessions and tokens too."""
    with audit.order("user.set_role", actor=actor, object_type="user", object_name=user.username) as detail:
        user = _locked(user)
        detail.update({"from": role_of(user).value, "to": _role(role).value})
        _not_oneself(user, actor)
        if role != Role.ADMIN:
            _not_the_last(user)
        put_role(user, role)
    return user


def set_active(user: User, active: bool, *, actor: Actor) -> User:
    """Disabled, a user cannot sign in, open sessions end and tokens are refused; nothing is deleted."""
    verb = "user.enable" if active else "user.disable"
    with audit.order(verb, actor=actor, object_type="user", object_name=user.username):
        user = _locked(user)
        _not_oneself(user, actor)
        if not active:
            _not_the_last(user)
            sessions.drop(user)
        user.is_active = active
        user.save(update_fields=["is_active"])
    return user


def must_change_password(user: User) -> bool:
    """Whether the password was set by somebody else."""
    return Account.objects.filter(user=user, one_time_until__isnull=False).exists()


def one_time_is_over(user: User) -> bool:
    """Whether the one-time password may not be used any more."""
    return Account.objects.filter(user=user, one_time_until__lte=timezone.now()).exists()


def _made(username: str, role: str) -> User:
    try:
        UnicodeUsernameValidator()(username)
    except ValidationError as error:
        raise InvalidInput("username", " ".join(error.messages)) from error
    if len(username) > NAME_CHARACTERS_MAX:
        raise InvalidInput("username", f"A name has at most {NAME_CHARACTERS_MAX} characters.")
    if User.objects.filter(username__iexact=username).exists():
        raise InvalidInput("username", f"There is already a user named {username}.", "Choose another name.")
    user = User(username=username)
    user.set_unusable_password()
    user.save()
    put_role(user, role)
    return user


def _role(role: str) -> Role:
    try:
        return Role(role)
    except ValueError as error:
        raise InvalidInput("role", f"There is no role {role}.", f"Use one of {', '.join(Role.values)}.") from error


def _locked(user: User) -> User:
    """The row as it is now. Administrators are locked with it: two orders at once cannot take away the last two."""
    admins = User.objects.select_for_update().filter(is_superuser=True).order_by("pk")
    list(admins)
    return User.objects.select_for_update().get(pk=user.pk)


def _not_oneself(user: User, actor: Actor) -> None:
    if actor.user is not None and actor.user.pk == user.pk:
        raise Conflict("own_account", "This is your own account.", "Ask another administrator.")


def _not_the_last(user: User) -> None:
    others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk=user.pk)
    if user.is_superuser and not others.exists():
        raise Conflict("last_admin", "This is the last administrator.", "Make somebody else an administrator first.")


def _one_time(user: User) -> str:
    password = secrets.token_urlsafe(ONE_TIME_BYTES)
    user.set_password(password)
    user.save(update_fields=["password"])
    until = timezone.now() + timedelta(hours=ONE_TIME_HOURS)
    Account.objects.update_or_create(user=user, defaults={"one_time_until": until})
    return password


def _set_password(user: User, password: str) -> None:
    try:
        password_validation.validate_password(password, user)
    except ValidationError as error:
        raise InvalidInput("password", " ".join(error.messages)) from error
    user.set_password(password)
