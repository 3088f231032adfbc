# SPDX-License-Identifier: Apache-2.0
"""Two-step sign-in: enrolment, codes once each, recovery codes, limits, the way back for who lost everything."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice

from prism.core.models import AuditRow, RecoveryCode
from prism.core.services import second_factor
from tests.access.conftest import PASSWORD, browser, sign_in

pytestmark = pytest.mark.django_db


def code_of(user: User, *, later: int = 0) -> str:
    """What the app shows `later` steps from now."""
    generator = TOTP(TOTPDevice.objects.get(user=user).bin_key)
    generator.time = time.time() + 30 * later
    return f"{generator.token():06d}"


def enrol(user: User) -> list[str]:
    """Through the pages; the recovery codes that were shown."""
    client = browser(user)
    assert client.get("/account/second-factor/").status_code == 200
    answer = client.post("/account/second-factor/", {"code": code_of(user)})
    assert answer.status_code == 200
    codes: list[str] = answer.context["codes"]
    return codes


def second(client: Client, code: str) -> Any:
    return client.post("/login/code/", {"code": code})


def test_the_enrolment_page_shows_the_secret_once_and_keeps_to_the_policy(operator: User) -> None:
    client = browser(operator)
    text = client.get("/account/second-factor/").content.decode()
    assert re.search(r"<svg[^>]*class=\"qr\"", text)
    assert "style=" not in text
    assert "http" not in re.sub(r'xmlns="[^"]+"', "", text)
    assert second_factor.secret_text(TOTPDevice.objects.get(user=operator)) in text
    assert client.get("/account/second-factor/").content.decode().count("<path") == text.count("<path")
    assert sign_in(browser(), "olga")["Location"] == "/"
    wrong = client.post("/account/second-factor/", {"code": "000000"})
    assert wrong.status_code == 422
    assert not second_factor.is_on(operator)


def test_it_enrols_after_two_windows_began_at_once(operator: User) -> None:
    for _window in range(2):
        TOTPDevice.objects.create(user=operator, name=second_factor.DEVICE_NAME, confirmed=False)
    shown = second_factor.begin(operator)
    generator = TOTP(shown.bin_key)
    generator.time = time.time()
    client = browser(operator)
    page = client.get("/account/second-factor/")
    assert second_factor.secret_text(shown) in page.content.decode()
    assert client.post("/account/second-factor/", {"code": f"{generator.token():06d}"}).status_code == 200
    assert list(TOTPDevice.objects.filter(user=operator).values_list("pk", "confirmed")) == [(shown.pk, True)]


def test_it_asks_for_the_code_at_the_console_and_for_the_admin(admin: User) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        enrol(admin)
        clock.shift(timedelta(seconds=60))
        client = browser()
        assert sign_in(client, "anna", next_page="/admin/")["Location"] == "/login/code/"
        assert client.get("/admin/").status_code == 302
        assert client.get("/").status_code == 302
        assert client.get("/api/v1/tasks/").status_code == 401
        assert second(client, code_of(admin))["Location"] == "/admin/"
        assert client.get("/admin/").status_code == 200
    assert AuditRow.objects.get(verb="user.sign_in", outcome="ok").detail == {"second_factor": "code"}


def test_a_code_works_once(operator: User) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        enrol(operator)
        clock.shift(timedelta(seconds=60))
        code = code_of(operator)
        for status in (302, 422):
            client = browser()
            sign_in(client, "olga")
            assert second(client, code).status_code == status


def test_a_recovery_code_works_once_and_is_kept_as_a_hash(operator: User) -> None:
    code = enrol(operator)[0]
    assert code.replace("-", "") not in str(list(RecoveryCode.objects.values()))
    for status in (302, 422):
        client = browser()
        sign_in(client, "olga")
        assert second(client, f" {code.upper()} ").status_code == status
    assert second_factor.codes_left(operator) == second_factor.RECOVERY_CODES - 1


def test_nobody_reaches_the_second_step_without_the_first(operator: User) -> None:
    codes = enrol(operator)
    client = browser()
    assert client.get("/login/code/")["Location"] == "/login/"
    assert second(client, codes[0])["Location"] == "/login/"
    assert second_factor.codes_left(operator) == second_factor.RECOVERY_CODES
    sign_in(client, "olga")
    with time_machine.travel(timezone.now() + timedelta(minutes=6), tick=False):
        assert second(client, codes[0])["Location"] == "/login/"


def test_a_changed_password_ends_the_step_that_was_begun(operator: User) -> None:
    codes, client = enrol(operator), browser()
    sign_in(client, "olga")
    operator.set_password("another horse 18")
    operator.save()
    assert second(client, codes[0])["Location"] == "/login/"


def test_wrong_codes_lock_and_a_right_password_does_not_forget_them(operator: User) -> None:
    codes = enrol(operator)
    client = browser()
    for number in range(5):
        sign_in(client, "olga")
        second(client, f"wrong-{number}")
    answer = second(client, codes[0])
    assert answer.status_code == 429
    assert "Try again in" in answer.content.decode()
    assert sign_in(browser(), "olga").status_code == 429
    assert AuditRow.objects.filter(verb="user.lock_out").count() == 1
    other = browser(address="127.0.0.7")
    sign_in(other, "olga")
    assert second(other, codes[0]).status_code == 302


def test_guesses_from_many_addresses_are_slowed_down(operator: User) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        enrol(operator)
        clock.shift(timedelta(seconds=60))
        for number in range(4):
            client = browser(address=f"127.0.1.{number}")
            sign_in(client, "olga")
            second(client, "000000")
            clock.shift(timedelta(seconds=2**number))
        clock.shift(timedelta(seconds=-2))
        client = browser(address="127.0.2.1")
        sign_in(client, "olga")
        assert "the next one is taken in 2 s" in second(client, code_of(operator)).content.decode()


def test_turning_it_on_ends_other_sessions(operator: User) -> None:
    other = browser()
    sign_in(other, "olga")
    enrol(operator)
    assert other.get("/").status_code == 302


def test_turning_it_off_asks_for_the_password(operator: User) -> None:
    enrol(operator)
    client = browser(operator)
    assert client.post("/account/second-factor/off/", {"current": "wrong"}).status_code == 422
    assert second_factor.is_on(operator)
    assert client.post("/account/second-factor/off/", {"current": PASSWORD}).status_code == 302
    assert sign_in(browser(), "olga")["Location"] == "/"


def test_new_recovery_codes_replace_the_old(operator: User) -> None:
    old = enrol(operator)
    new = browser(operator).post("/account/second-factor/codes/", {"current": PASSWORD}).context["codes"]
    client = browser()
    sign_in(client, "olga")
    assert second(client, old[0]).status_code == 422
    assert second(client, new[0]).status_code == 302


def test_an_administrator_or_a_command_turns_it_off(admin: User, operator: User) -> None:
    enrol(operator)
    browser(admin).post(f"/users/{operator.pk}/order/second-factor-off/")
    assert not second_factor.is_on(operator)
    enrol(admin)
    call_command("second_factor_off", "anna")
    assert sign_in(browser(), "anna")["Location"] == "/"
    assert AuditRow.objects.filter(verb="second_factor.disable", outcome="ok").count() == 2
    with pytest.raises(CommandError, match="off already"):
        call_command("second_factor_off", "anna")
    with pytest.raises(CommandError, match="no user"):
        call_command("second_factor_off", "nobody")


def test_it_stays_with_one_phone(operator: User) -> None:
    enrol(operator)
    assert browser(operator).get("/account/second-factor/")["Location"] == "/account/"
