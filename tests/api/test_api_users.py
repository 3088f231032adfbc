# SPDX-License-Identifier: Apache-2.0
"""Users and sessions through the API: the services of the console's pages, for whom those are."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django_otp.plugins.otp_totp.models import TOTPDevice

from prism.core.actor import Actor
from prism.core.models import ApiToken, AuditRow, SignInSession, Site
from prism.core.services import roles, tokens
from prism.core.services.roles import Role

pytestmark = pytest.mark.django_db
ACTOR = Actor.cli("test")


@pytest.fixture
def admin() -> User:
    Site.objects.create(pk=1, uuid=uuid.uuid4(), name="site1", cluster_id=1, incarnation_id=2)
    return User.objects.create(username="maria", is_superuser=True)


def client_of(user: User) -> Client:
    _, text = tokens.create(user=user, name="test", actor=ACTOR)
    return Client(headers={"Authorization": f"Bearer {text}"}, raise_request_exception=False)


def send(client: Client, method: str, address: str, body: Any = None, **headers: str) -> Any:
    return getattr(client, method)(f"/api/v1/{address}", body or {}, content_type="application/json", headers=headers)


def invited(client: Client, name: str = "nina", role: str = "operator") -> int:
    answer = send(client, "post", "users/", {"username": name, "role": role})
    assert answer.status_code == 201, answer.content
    return int(answer.json()["user"]["id"])


def test_it_invites_with_a_password_that_is_shown_once(admin: User) -> None:
    client = client_of(admin)
    key = {"Idempotency-Key": "k"}
    answer = send(client, "post", "users/", {"username": "nina", "role": "operator"}, **key)
    made = answer.json()
    assert (made["user"]["username"], made["user"]["role"], made["user"]["is_active"]) == ("nina", "operator", True)
    assert User.objects.get(username="nina").check_password(made["one_time_password"])
    again = send(client, "post", "users/", {"username": "nina", "role": "operator"}, **key)
    assert again.json()["error"]["code"] == "shown_once"
    assert made["one_time_password"] not in str(list(AuditRow.objects.values_list("detail", flat=True)))
    assert AuditRow.objects.filter(object_name="nina", user=admin).count() == 1


def test_it_lists_with_role_second_factor_and_filters(admin: User, django_assert_max_num_queries: Any) -> None:
    client = client_of(admin)
    for number in range(12):
        invited(client, f"user{number:02d}", "viewer")
    TOTPDevice.objects.create(user=User.objects.get(username="user03"), confirmed=True)
    with django_assert_max_num_queries(9):
        found = client.get("/api/v1/users/").json()
    assert found["count"] == 13
    assert [row["username"] for row in found["results"] if row["second_factor"]] == ["user03"]
    assert {row["role"] for row in found["results"]} == {"admin", "viewer"}
    only = client.get("/api/v1/users/?username=user05").json()["results"]
    assert [row["username"] for row in only] == ["user05"]


def test_it_changes_roles_and_disables(admin: User) -> None:
    client = client_of(admin)
    pk = invited(client)
    assert send(client, "patch", f"users/{pk}/", {"role": "viewer"}).json()["role"] == "viewer"
    assert roles.role_of(User.objects.get(pk=pk)) == Role.VIEWER
    assert send(client, "patch", f"users/{pk}/", {"is_active": False}).json()["is_active"] is False
    assert send(client, "patch", f"users/{pk}/", {"role": "king"}).status_code == 422
    own = send(client, "patch", f"users/{admin.pk}/", {"role": "viewer"})
    assert (own.status_code, own.json()["error"]["code"]) == (409, "own_account")


def test_it_resets_ends_revokes_and_unlocks(admin: User) -> None:
    client = client_of(admin)
    pk = invited(client)
    nina = User.objects.get(pk=pk)
    browser = Client()
    browser.force_login(nina)
    tokens.create(user=nina, name="hers", actor=ACTOR)
    TOTPDevice.objects.create(user=nina, confirmed=True)
    assert len(client.get(f"/api/v1/users/{pk}/sessions/").json()) == SignInSession.objects.filter(user=nina).count()
    assert send(client, "post", f"users/{pk}/end-sessions/").json()["ended"] == 1
    assert send(client, "post", f"users/{pk}/revoke-tokens/").json()["ended"] == 1
    assert ApiToken.objects.filter(user=nina, revoked_at__isnull=True).count() == 0
    assert send(client, "post", f"users/{pk}/second-factor-off/").json()["second_factor"] is False
    assert send(client, "post", f"users/{pk}/unlock/").status_code == 200
    word = send(client, "post", f"users/{pk}/reset-password/").json()["one_time_password"]
    assert User.objects.get(pk=pk).check_password(word)


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_nobody_else_sees_users(admin: User, role: str) -> None:
    pk = invited(client_of(admin), role=role)
    other = client_of(User.objects.get(pk=pk))
    assert other.get("/api/v1/users/").status_code == 403
    assert send(other, "patch", f"users/{pk}/", {"role": "admin"}).status_code == 403
    assert send(other, "post", "users/", {"username": "eve", "role": "admin"}).status_code == 403


def test_everybody_sees_and_ends_the_own_sessions_only(admin: User) -> None:
    nina = User.objects.get(pk=invited(client_of(admin)))
    for user in (admin, nina):
        Client().force_login(user)
    client = client_of(nina)
    mine = client.get("/api/v1/sessions/").json()["results"]
    assert len(mine) == 1
    theirs = SignInSession.objects.get(user=admin)
    assert send(client, "delete", f"sessions/{theirs.pk}/").status_code == 404
    assert send(client, "delete", f"sessions/{mine[0]['id']}/").status_code == 204
    assert not SignInSession.objects.filter(user=nina).exists()
