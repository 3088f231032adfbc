# SPDX-License-Identifier: Apache-2.0
"""Every page: who sees it, that it renders as page, dialog and fragment, and that it keeps to the strict policy."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from django.test import Client

from tests.console.conftest import Rows
from tests.console.pages import ACTING, ADMIN, OWN, hidden, pages

DIALOG = {"HX-Request": "true", "HX-Target": "dialog"}
FRAGMENT = {"HX-Request": "true", "HX-Target": "pane-body"}


class Policy(HTMLParser):
    """Collects what the Content-Security-Policy would block, and what a foreign host would serve."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.faults.append(f"inline <{tag}>")
        for name, value in attrs:
            if name == "style" or name.startswith(("on", "hx-on")):
                self.faults.append(f"{name} on <{tag}>")
            loaded = name in {"src", "action"} or (name == "href" and tag in {"link", "use"})
            if loaded and (value or "").startswith(("http:", "https:", "javascript:", "data:", "//")):
                self.faults.append(f"{tag} {name}={value}")
        if given.get("id"):
            self.names.append(str(given["id"]))


def faults_of(text: str) -> list[str]:
    parser = Policy()
    parser.feed(text)
    double = {name for name in parser.names if parser.names.count(name) > 1}
    return parser.faults + [f"id {name} twice" for name in sorted(double)]


def test_it_renders_every_page_dialog_and_fragment_for_an_administrator(admin: Client, rows: Rows) -> None:
    for name, url in pages(rows).items():
        for headers in ({}, DIALOG, FRAGMENT):
            answer = admin.get(url, headers=headers)
            assert answer.status_code == 200, (name, headers)
            assert faults_of(answer.content.decode()) == [], (name, headers)


def test_it_shows_a_reader_what_there_is_and_refuses_what_acts(reader: Client, rows: Rows) -> None:
    for name, url in pages(rows).items():
        answer = reader.get(url)
        assert answer.status_code == (403 if name in ACTING | ADMIN else 200), name
        assert faults_of(answer.content.decode()) == [], name
        assert reader.post(url).status_code in {403, 405} or name not in ACTING | ADMIN, name


def test_it_lets_the_operator_group_act(operator: Client, rows: Rows) -> None:
    for name, url in pages(rows).items():
        assert operator.get(url).status_code == (403 if name in ADMIN else 200), name


def test_it_sends_a_stranger_to_the_sign_in_page_from_everywhere(client: Client, rows: Rows) -> None:
    for name, url in pages(rows).items():
        answer = client.get(url)
        assert answer.status_code == 302, name
        assert answer["Location"].startswith("/login/?next="), name
        part = client.get(url, headers=FRAGMENT)
        assert (part.status_code, part["HX-Refresh"]) == (204, "true"), name
    for name, url in hidden(rows).items():
        answer = client.post(url)
        assert answer.status_code == 302, name
        assert answer["Location"].startswith("/login/?next=") or name in {"console:theme", "console:sign-out"}, name


def test_it_refuses_a_post_of_a_reader_to_every_order(reader: Client, rows: Rows) -> None:
    for name, url in hidden(rows).items():
        if name not in OWN:
            assert reader.post(url).status_code == 403, name


@pytest.mark.parametrize("status", [404])
def test_it_names_a_request_id_on_error_pages(admin: Client, status: int) -> None:
    answer = admin.get("/no/such/page/")
    assert answer.status_code == status
    assert answer["X-Request-ID"] in answer.content.decode()


def test_it_refuses_a_form_without_csrf_token(admin_user: object, rows: Rows) -> None:
    from django.urls import reverse

    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)  # type: ignore[arg-type]
    answer = strict.post(reverse("dp:wizard-name"), {"name": "bar"})
    assert answer.status_code == 403
    assert not rows.domain.__class__.objects.filter(name="bar").exists()


def test_it_sends_the_strict_policy_and_is_not_cached(admin: Client, rows: Rows) -> None:
    answer = admin.get("/")
    assert "'unsafe" not in answer["Content-Security-Policy"]
    assert "no-store" in answer["Cache-Control"]
    assert "HX-Request" in answer["Vary"]


def test_it_escapes_what_others_wrote(admin: Client, rows: Rows) -> None:
    rows.alert.__class__.objects.update(message="<script>alert(1)</script>")
    assert "<script>alert" not in admin.get("/").content.decode()
