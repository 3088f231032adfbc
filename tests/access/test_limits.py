# SPDX-License-Identifier: Apache-2.0
"""Failed sign-ins lock out: whom, from where, for how long, and nobody else."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.conf import settings
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from prism.core.actor import Actor
from prism.core.models import AuditRow
from prism.core.services import tokens
from tests.access.conftest import browser, sign_in

pytestmark = pytest.mark.django_db
LIMIT = settings.AXES_FAILURE_LIMIT
WRONG = "not the password"


def fail(client: Client, name: str, times: int) -> None:
    for _ in range(times):
        assert sign_in(client, name, WRONG).status_code in {422, 429}


def test_it_locks_a_name_at_an_address_and_says_when_to_try_again(viewer: User) -> None:
    client = browser()
    fail(client, "vera", LIMIT - 1)
    answer = sign_in(client, "vera", WRONG)
    assert answer.status_code == 429
    assert 0 < int(answer["Retry-After"]) <= 900
    assert "Try again in 14 min" in answer.content.decode()
    right = sign_in(client, "vera")
    assert right.status_code == 429
    assert "_auth_user_id" not in client.session
    assert sign_in(browser(address="127.0.0.7"), "vera").status_code == 302


def test_a_lock_ends_by_itself_and_tries_do_not_prolong_it(viewer: User) -> None:
    client = browser()
    with time_machine.travel(timezone.now(), tick=False) as clock:
        fail(client, "vera", LIMIT)
        clock.shift(timedelta(minutes=14))
        assert sign_in(client, "vera").status_code == 429
        clock.shift(timedelta(minutes=1, seconds=1))
        assert sign_in(client, "vera").status_code == 302


def test_a_right_password_forgets_the_failures_before_it(viewer: User) -> None:
    client = browser()
    fail(client, "vera", LIMIT - 1)
    assert sign_in(client, "vera").status_code == 302
    client.post("/logout/")
    fail(client, "vera", LIMIT - 1)
    assert sign_in(client, "vera").status_code == 302


def test_a_name_that_nobody_has_is_locked_alike(viewer: User) -> None:
    texts = []
    for name in ("vera", "nobody"):
        client = browser()
        first = sign_in(client, name, WRONG).content.decode()
        assert "Name and password do not fit." in first
        fail(client, name, LIMIT)
        texts.append(sign_in(client, name, WRONG).status_code)
    assert texts == [429, 429]


def test_it_reaches_the_hasher_at_most_as_often_as_the_limit(viewer: User, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    verify = MD5PasswordHasher.verify
    monkeypatch.setattr(MD5PasswordHasher, "verify", lambda *args: checked.append(1) or verify(*args))
    client = browser()
    for number in range(40):
        sign_in(client, "vera", f"guess {number}")
    assert len(checked) == LIMIT


def test_headers_of_proxies_make_no_new_address(viewer: User) -> None:
    client = browser()
    for number in range(LIMIT + 1):
        answer = client.post(
            "/login/",
            {"username": "vera", "password": WRONG},
            headers={"X-Forwarded-For": f"10.0.0.{number}", "X-Real-IP": f"10.0.1.{number}", "User-Agent": str(number)},
        )
    assert answer.status_code == 429
    assert set(AuditRow.objects.filter(verb="user.lock_out").values_list("address", flat=True)) == {"127.0.0.1"}


def test_addresses_of_one_ipv6_network_count_together(viewer: User) -> None:
    for number in range(LIMIT):
        fail(browser(address=f"2001:db8::{number + 1}"), "vera", 1)
    assert sign_in(browser(address="2001:db8::ffff"), "vera").status_code == 429
    assert sign_in(browser(address="2001:db8:0:1::1"), "vera").status_code == 302


def test_many_names_from_one_address_are_one_attack(viewer: User) -> None:
    client = browser()
    for number in range(settings.AXES_ADDRESS_FAILURE_LIMIT):
        fail(client, f"name{number}", 1)
    assert sign_in(client, "vera").status_code == 429
    assert sign_in(browser(address="127.0.0.7"), "vera").status_code == 302


def test_the_audit_has_each_failure_and_the_lock_once(viewer: User) -> None:
    client = browser()
    fail(client, "vera", LIMIT + 5)
    rows = AuditRow.objects.filter(object_name="vera", outcome="refused")
    assert rows.filter(verb="user.sign_in").count() == LIMIT - 1
    locked = rows.get(verb="user.lock_out")
    assert (locked.address, locked.detail["failures"]) == ("127.0.0.1", LIMIT)
    assert WRONG not in str(list(AuditRow.objects.values()))


def test_no_password_is_kept_with_the_failures(viewer: User) -> None:
    from axes.models import AccessAttempt

    fail(browser(), "vera", 2)
    assert WRONG not in str(list(AccessAttempt.objects.values()))


def test_the_admin_has_no_sign_in_of_its_own(admin: User, viewer: User) -> None:
    client = browser()
    answer = client.get("/admin/", follow=True)
    assert [url for url, _ in answer.redirect_chain][-1].startswith("/login/?next=")
    assert client.post("/admin/login/", {"username": "anna", "password": "x"})["Location"].startswith("/login/")
    fail(client, "anna", LIMIT)
    assert sign_in(client, "anna", next_page="/admin/").status_code == 429
    other = browser(address="127.0.0.7")
    assert sign_in(other, "anna", next_page="/admin/")["Location"] == "/admin/"
    assert other.get("/admin/").status_code == 200
    assert browser(viewer).get("/admin/", follow=True).status_code == 403


def test_wrong_tokens_are_refused_with_a_wait_and_right_ones_work(operator: User) -> None:
    _, text = tokens.create(user=operator, name="report", actor=Actor.cli("test"))
    wrong, right = {"Authorization": "Bearer prism_wrong"}, {"Authorization": f"Bearer {text}"}
    client = Client()
    codes = [client.get("/api/v1/tasks/", headers=wrong).status_code for _ in range(LIMIT + 2)]
    assert codes == [401] * LIMIT + [429, 429]
    answer = client.get("/api/v1/tasks/", headers=wrong)
    assert 0 < int(answer["Retry-After"]) <= 900
    assert answer.json()["error"]["code"] == "throttled"
    assert client.get("/api/v1/tasks/", headers=right).status_code == 200
    assert AuditRow.objects.filter(verb="user.lock_out", source="api").count() == 1
    assert sign_in(client, "olga").status_code == 302


def test_a_command_unlocks(viewer: User, capsys: pytest.CaptureFixture[str]) -> None:
    client = browser()
    fail(client, "vera", LIMIT)
    call_command("unlock", "vera", "--address", "127.0.0.9")
    assert sign_in(client, "vera").status_code == 429
    call_command("unlock", "vera")
    assert "1 records" in capsys.readouterr().out
    assert sign_in(client, "vera").status_code == 302
    assert AuditRow.objects.filter(verb="user.unlock", outcome="ok").count() == 2
    with pytest.raises(CommandError, match="a name, an address"):
        call_command("unlock")
