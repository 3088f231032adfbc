# SPDX-License-Identifier: Apache-2.0
"""Idempotency-Key: at every POST, carried out once, answered as the first time, refused for another order."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from dataprotection.models import ProtectionDomain
from prism.core.actor import Actor
from prism.core.api.once import OrdersOnce
from prism.core.models import ApiToken, Order, Site
from prism.core.services import orders_once, tokens

pytestmark = pytest.mark.django_db
ACTOR = Actor.cli("test")


@pytest.fixture
def user(db: None) -> User:
    Site.objects.create(pk=1, uuid=uuid.uuid4(), name="site1", cluster_id=1, incarnation_id=2)
    return User.objects.create(username="maria", is_superuser=True)


def client_of(user: User) -> Client:
    _, text = tokens.create(user=user, name="test", actor=ACTOR)
    return Client(headers={"Authorization": f"Bearer {text}"}, raise_request_exception=False)


@pytest.fixture
def client(user: User) -> Client:
    return client_of(user)


def post(client: Client, address: str, body: Any = None, key: str = "k") -> Any:
    headers = {"Idempotency-Key": key}
    return client.post(f"/api/v1/{address}", body or {}, content_type="application/json", headers=headers)


def code_of(answer: Any) -> str:
    return str(answer.json()["error"]["code"])


def test_it_carries_an_order_out_once(client: Client) -> None:
    first = post(client, "protection-domains/", {"name": "pd"})
    again = post(client, "protection-domains/", {"name": "pd"})
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert ProtectionDomain.objects.count() == 1
    assert post(client, "protection-domains/", {"name": "pd"}, key="other").status_code == 422


def test_it_refuses_another_order_with_the_same_key(client: Client) -> None:
    post(client, "protection-domains/", {"name": "pd"})
    assert code_of(post(client, "protection-domains/", {"name": "pd2"})) == "idempotency_key_reused"
    assert code_of(post(client, "alerts/1/resolve/")) in {"idempotency_key_reused", "not_found"}
    assert ProtectionDomain.objects.count() == 1


def test_a_refused_order_may_be_corrected(client: Client) -> None:
    assert post(client, "protection-domains/", {"name": "ä"}).status_code == 422
    assert post(client, "protection-domains/", {"name": "pd"}).status_code == 201


def test_a_key_is_its_users_own(client: Client, user: User) -> None:
    other = client_of(User.objects.create(username="nina", is_superuser=True))
    assert post(client, "protection-domains/", {"name": "pd"}).status_code == 201
    assert post(other, "protection-domains/", {"name": "pd2"}).status_code == 201


def test_it_answers_nobody_who_may_not_ask_any_more(client: Client, user: User) -> None:
    post(client, "protection-domains/", {"name": "pd"})
    user.is_superuser = False
    user.save()
    assert post(client, "protection-domains/", {"name": "pd"}).status_code == 403
    tokens.revoke(user.api_tokens.get(), actor=ACTOR)
    assert post(client, "protection-domains/", {"name": "pd"}).status_code == 401


def test_it_shows_a_secret_once_and_keeps_none(client: Client) -> None:
    made = post(client, "tokens/", {"name": "ci"})
    assert made.status_code == 201
    assert code_of(post(client, "tokens/", {"name": "ci"})) == "shown_once"
    assert ApiToken.objects.filter(name="ci").count() == 1
    assert all(made.json()["token"] not in row.body for row in Order.objects.all())


def test_it_waits_for_an_order_that_is_under_way_and_takes_over_from_the_dead(client: Client, user: User) -> None:
    post(client, "protection-domains/", {"name": "pd"})
    order = Order.objects.get()
    ProtectionDomain.objects.all().delete()
    Order.objects.update(status=None)
    assert code_of(post(client, "protection-domains/", {"name": "pd"})) == "order_under_way"
    Order.objects.update(begun_at=order.begun_at - timedelta(minutes=11))
    assert post(client, "protection-domains/", {"name": "pd"}).status_code == 201
    assert Order.objects.get().status == 201


def test_it_forgets_after_a_day(client: Client) -> None:
    post(client, "protection-domains/", {"name": "pd"})
    assert orders_once.prune(timezone.now() + timedelta(hours=23)) == 0
    assert orders_once.prune(timezone.now() + timedelta(hours=25)) == 1


@pytest.mark.parametrize("key", ["x" * 129])
def test_it_refuses_a_key_that_is_too_long(client: Client, key: str) -> None:
    assert post(client, "protection-domains/", {"name": "pd"}, key=key).status_code == 422


def views(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        address = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from views(pattern.url_patterns, address)
        elif isinstance(pattern, URLPattern):
            yield address, pattern.callback


def test_every_post_of_the_api_has_it() -> None:
    posts = [
        (address, view)
        for address, view in views(get_resolver().url_patterns)
        if address.startswith("api/v1/") and "post" in getattr(view, "actions", {})
    ]
    assert len(posts) > 30
    without = [address for address, view in posts if not issubclass(view.cls, OrdersOnce)]
    assert without == []


def test_the_description_names_the_header_at_every_post(client: Client) -> None:
    found = client.get("/api/v1/schema/", headers={"accept": "application/vnd.oai.openapi+json"}).json()["paths"]
    posts = [operations["post"] for operations in found.values() if "post" in operations]
    assert posts
    for operation in posts:
        assert "Idempotency-Key" in {parameter["name"] for parameter in operation["parameters"]}
