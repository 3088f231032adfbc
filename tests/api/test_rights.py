# SPDX-License-Identifier: Apache-2.0
"""Who may order through the API: the console's rule at every address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

pytestmark = pytest.mark.django_db

READERS_MAY = {"token-list", "token-detail", "session-detail"}
"""Their own tokens, which can only read, and their own sessions."""


def orders() -> Iterator[tuple[str, str, str]]:
    """(name, path, method) of every unsafe method of every named API address."""
    for name, pattern, actions in _walk(get_resolver("prism.api_urls").url_patterns, ""):
        for method in ("post", "put", "patch", "delete"):
            if method in actions and name not in READERS_MAY:
                yield name, pattern, method


def _walk(patterns: list[Any], prefix: str) -> Iterator[tuple[str, str, set[str]]]:
    for entry in patterns:
        here = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from _walk(entry.url_patterns, here)
        elif isinstance(entry, URLPattern) and entry.name:
            actions = getattr(entry.callback, "actions", None) or {}
            yield entry.name, here, set(actions)


def concrete(pattern: str) -> str:
    """An address of the pattern: any identifier will do, rights come before rows."""
    path = re.sub(r"\(\?P<[^>]+>(?:[^()]|\([^()]*\))*\)", "1", pattern)
    return "/api/v1/" + re.sub(r"[\^$\\]|\.\(.*$", "", path)


def test_a_reader_may_order_nothing_and_nobody_else_anything(client: Client) -> None:
    reader = User.objects.create_user("reader")
    found = sorted(set(orders()))
    assert len(found) > 25
    for name, pattern, method in found:
        answer = getattr(client, method)(concrete(pattern), data={}, content_type="application/json")
        assert answer.status_code in {401, 403}, f"{method} {pattern} ({name}) without signing in: {answer.status_code}"
    client.force_login(reader)
    for name, pattern, method in found:
        answer = getattr(client, method)(concrete(pattern), data={}, content_type="application/json")
        assert answer.status_code == 403, f"{method} {pattern} ({name}) as a reader: {answer.status_code}"


def test_an_unknown_address_is_told_as_one_whatever_the_method() -> None:
    client = Client(enforce_csrf_checks=True)
    for method in ("get", "post", "put", "patch", "delete"):
        answer = getattr(client, method)("/api/v1/no-such-thing/")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_a_reader_reads_what_the_console_shows_him(client: Client) -> None:
    client.force_login(User.objects.create_user("reader"))
    for name in ("audit", "alerts", "events", "tasks", "snapshots", "disks"):
        assert client.get(f"/api/v1/{name}/").status_code == 200, name
