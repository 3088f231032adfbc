# SPDX-License-Identifier: Apache-2.0
"""Roles, users, passwords and sessions, as people use them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from prism.core.actor import Actor
from prism.core.exceptions import Conflict
from prism.core.models import AuditRow, SignInSession
from prism.core.services import roles, tokens, users
from prism.core.services.roles import Role
from tests.access.conftest import PASSWORD, browser, sign_in

pytestmark = pytest.mark.django_db
NEW = "another horse 18"


def invited(admin: User, name: str = "nils", role: str = "operator") -> str:
    """The one-time password that the page shows."""
    answer = browser(admin).post(reverse("console:user-new"), {"username": name, "role": role})
    assert answer.status_code == 200, answer.content
    password: str = answer.context["password"]
    assert password in answer.content.decode()
    return password


def change(client: Client, current: str, new: str = NEW, again: str = NEW) -> Any:
    return client.post(reverse("console:password"), {"current": current, "new": new, "again": again})


def test_an_invited_user_changes_the_one_time_password_before_anything_else(admin: User) -> None:
    password, client = invited(admin), browser()
    assert sign_in(client, "nils", password).status_code == 302
    assert client.get("/")["Location"] == "/account/password/"
    assert client.get("/", headers={"HX-Request": "true"})["HX-Redirect"] == "/account/password/"
    refused = client.get("/api/v1/tasks/")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "password_change_required")
    assert client.get("/account/password/").status_code == 200
    assert change(client, password)["Location"] == "/"
    assert client.get("/api/v1/tasks/").status_code == 200
    nils = User.objects.get(username="nils")
    assert roles.role_of(nils) == Role.OPERATOR
    assert not users.must_change_password(nils)
    assert password not in str(list(AuditRow.objects.values()))


def test_a_one_time_password_ends(admin: User) -> None:
    password = invited(admin)
    with time_machine.travel(timezone.now() + timedelta(hours=users.ONE_TIME_HOURS, minutes=1), tick=False):
        answer = sign_in(browser(), "nils", password)
        assert answer.status_code == 422
        assert "good for 24 hours" in answer.content.decode()


def test_a_reset_ends_sessions_and_the_old_password(admin: User, operator: User) -> None:
    client = browser()
    sign_in(client, "olga")
    answer = browser(admin).post(reverse("console:user-reset-password", args=[operator.pk]))
    assert client.get("/").status_code == 302
    assert sign_in(browser(), "olga").status_code == 422
    assert sign_in(browser(), "olga", answer.context["password"]).status_code == 302
    assert AuditRow.objects.get(verb="user.reset_password").detail["sessions_ended"] == 1


@pytest.mark.parametrize("wrong", ["short", "12345678901234", "basketball", PASSWORD])
def test_weak_passwords_are_refused_with_the_reason(operator: User, wrong: str) -> None:
    answer = change(browser(operator), PASSWORD, wrong, wrong)
    assert answer.status_code == 422
    assert answer.context["form"].errors["new"]


def test_a_change_of_password_asks_for_the_old_one_and_ends_other_sessions(operator: User) -> None:
    here, there = browser(), browser(address="127.0.0.7")
    for client in (here, there):
        sign_in(client, "olga")
    assert change(here, "wrong").status_code == 422
    assert change(here, PASSWORD, NEW, "different").status_code == 422
    assert change(here, PASSWORD).status_code == 302
    assert here.get("/account/").status_code == 200
    assert there.get("/account/").status_code == 302
    assert SignInSession.objects.filter(user=operator).count() == 1


def test_guesses_at_the_old_password_lock_like_failed_sign_ins(operator: User) -> None:
    client = browser(operator)
    for _ in range(5):
        change(client, "wrong")
    assert "Try again in" in change(client, PASSWORD).content.decode()


def test_a_user_sees_and_ends_his_sessions_and_nobody_elses(operator: User, viewer: User) -> None:
    here, there = browser(), browser(address="127.0.0.7")
    for client in (here, there):
        sign_in(client, "olga")
    text = here.get("/account/").content.decode()
    assert "127.0.0.7" in text
    assert "This browser" in text
    other = SignInSession.objects.get(user=operator, address="127.0.0.7")
    browser(viewer).post(reverse("console:session-end", args=[other.pk]))
    assert there.get("/").status_code == 200
    here.post(reverse("console:session-end", args=[other.pk]))
    assert there.get("/").status_code == 302
    sign_in(there, "olga")
    here.post(reverse("console:sessions-end"))
    assert there.get("/").status_code == 302
    assert here.get("/").status_code == 200


def test_a_session_list_forgets_what_ended_by_itself(operator: User) -> None:
    client = browser()
    sign_in(client, "olga")
    client.post("/logout/")
    assert not SignInSession.objects.exists()


def test_a_role_holds_at_once_for_sessions_and_tokens(admin: User, operator: User) -> None:
    _, text = tokens.create(user=operator, name="t", actor=Actor.cli("test"))
    client, bearer = browser(operator), Client(headers={"Authorization": f"Bearer {text}"})
    assert client.get(reverse("dp:wizard-name")).status_code == 200
    browser(admin).post(reverse("console:user-role", args=[operator.pk]), {"role": "viewer"})
    assert client.get(reverse("dp:wizard-name")).status_code == 403
    assert bearer.post("/api/v1/protection-domains/", {"name": "x"}).status_code == 403
    assert bearer.get("/api/v1/tasks/").status_code == 200
    row = AuditRow.objects.get(verb="user.set_role")
    assert (row.actor, row.detail["from"], row.detail["to"]) == ("anna", "operator", "viewer")


def test_a_disabled_user_is_out_and_comes_back_as_he_was(admin: User, operator: User) -> None:
    _, text = tokens.create(user=operator, name="t", actor=Actor.cli("test"))
    client, bearer = browser(operator), Client(headers={"Authorization": f"Bearer {text}"})
    chief = browser(admin)
    chief.post(reverse("console:user-order", args=[operator.pk, "disable"]))
    assert client.get("/").status_code == 302
    assert bearer.get("/api/v1/tasks/").status_code == 401
    assert sign_in(browser(), "olga").status_code == 422
    chief.post(reverse("console:user-order", args=[operator.pk, "enable"]))
    assert bearer.get("/api/v1/tasks/").status_code == 200
    assert sign_in(browser(), "olga").status_code == 302
    assert {"user.disable", "user.enable"} <= set(AuditRow.objects.values_list("verb", flat=True))


def test_nobody_changes_himself_and_the_last_administrator_stays(admin: User) -> None:
    client = browser(admin)
    client.post(reverse("console:user-order", args=[admin.pk, "disable"]))
    assert client.post(reverse("console:user-role", args=[admin.pk]), {"role": "viewer"}).status_code == 422
    admin.refresh_from_db()
    assert admin.is_active
    assert admin.is_superuser
    with pytest.raises(Conflict, match="last administrator"):
        users.set_role(admin, "viewer", actor=Actor.cli("test"))
    with pytest.raises(Conflict, match="last administrator"):
        users.set_active(admin, False, actor=Actor.cli("test"))


def test_a_form_sent_twice_makes_one_user(admin: User) -> None:
    client = browser(admin)
    form = {"username": "nils", "role": "viewer", "form_token": "3d1c7a52-6c0e-4b39-9a54-7f7e8c2b6a11"}
    assert client.post(reverse("console:user-new"), form).status_code == 200
    assert client.post(reverse("console:user-new"), form).status_code == 422
    assert User.objects.filter(username="nils").count() == 1
    assert client.post(reverse("console:user-new"), {"username": "NILS", "role": "viewer"}).status_code == 422
    assert client.post(reverse("console:user-new"), {"username": "<b>", "role": "viewer"}).status_code == 422


def test_the_list_finds_and_shows_states(admin: User, operator: User, viewer: User) -> None:
    for _ in range(5):
        sign_in(browser(), "vera", "wrong")
    client = browser(admin)
    text = client.get(reverse("console:users")).content.decode()
    assert "Locked" in text
    assert "olga" not in client.get(reverse("console:users") + "?q=ver").content.decode()
    client.post(reverse("console:user-order", args=[viewer.pk, "unlock"]))
    assert sign_in(browser(), "vera").status_code == 302


def test_the_admin_pages_show_every_model_and_change_none(admin: User, operator: User) -> None:
    from django.contrib.admin.sites import site

    tokens.create(user=operator, name="t", actor=Actor.cli("test"))
    client = browser(admin)
    for model in site._registry:
        base = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        assert client.get(reverse(f"{base}_changelist")).status_code == 200, base
        assert client.get(reverse(f"{base}_add")).status_code == 403, base
        row = model.objects.first()
        if row is not None:
            page = reverse(f"{base}_change", args=[row.pk])
            assert client.get(page).status_code == 200, base
            assert client.post(page, {}).status_code == 403, base
            assert client.post(reverse(f"{base}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403, base
    assert operator.api_tokens.get().token_hash not in str(
        client.get(reverse("admin:core_apitoken_change", args=[operator.api_tokens.get().pk])).content
    )
