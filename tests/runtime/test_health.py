# SPDX-License-Identifier: Apache-2.0
"""`/healthz` and `/readyz`, over a real Postgres and Redis."""

import pytest
from django.contrib.auth.models import User
from django.test import Client


def test_it_answers_healthz_without_any_server(client: Client) -> None:
    response = client.get("/healthz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


@pytest.mark.django_db
def test_it_is_ready_with_database_and_redis(client: Client, redis_url: str, settings: pytest.FixtureRequest) -> None:
    settings.REDIS_URL = redis_url
    response = client.get("/readyz")
    assert response.json()["checks"] == {"database": "ok", "migrations": "ok", "redis": "ok"}
    assert response.status_code == 200


@pytest.mark.django_db
def test_it_names_what_is_not_ready(client: Client, settings: pytest.FixtureRequest) -> None:
    settings.REDIS_URL = "unix:///nonexistent/redis.sock?db=0"
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["redis"].startswith("unreachable")


@pytest.mark.django_db
def test_a_stranger_is_sent_to_sign_in_and_an_administrator_gets_in(
    client: Client, django_user_model: type[User]
) -> None:
    assert client.get("/").headers["Location"].startswith("/login/")
    assert client.get("/login/").status_code == 200
    client.force_login(django_user_model.objects.create_superuser("admin", password="not a real one 1"))
    assert client.get("/").status_code == 200
    assert client.get("/admin/").status_code == 200
