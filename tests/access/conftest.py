# SPDX-License-Identifier: Apache-2.0
"""One account of each role, and a cache in the process."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from prism.core.services.roles import Role, put_role

PASSWORD = "correct horse 17"


@pytest.fixture(autouse=True)
def _quick(settings: Any) -> None:
    """Sent forms are remembered in the process instead of in Redis, and hashes cost nothing."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()


def account(name: str, role: Role) -> User:
    user = User.objects.create_user(name, password=PASSWORD)
    put_role(user, role)
    return user


@pytest.fixture
def viewer(db: None) -> User:
    return account("vera", Role.VIEWER)


@pytest.fixture
def operator(db: None) -> User:
    return account("olga", Role.OPERATOR)


@pytest.fixture
def admin(db: None) -> User:
    return account("anna", Role.ADMIN)


def browser(user: User | None = None, *, address: str = "127.0.0.1") -> Client:
    """A browser at `address`; signed in as `user` when one is given."""
    client = Client(REMOTE_ADDR=address)
    if user is not None:
        client.force_login(user)
    return client


def sign_in(client: Client, name: str, password: str = PASSWORD, next_page: str = "") -> Any:
    """The answer to the form of the sign-in page."""
    return client.post("/login/", {"username": name, "password": password, "next": next_page})
