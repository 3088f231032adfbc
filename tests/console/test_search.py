# SPDX-License-Identifier: Apache-2.0
"""Search over everything, orders of the command palette, the list of keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.urls import resolve, reverse

from tests.console.conftest import Rows, make_domain

pytestmark = pytest.mark.usefixtures("no_workers")
IN_DIALOG = {"HX-Request": "true", "HX-Target": "dialog"}
ONLY_HITS = {"HX-Request": "true", "HX-Target": "hits"}


def _hits(client: Client, query: str) -> list[tuple[str, str]]:
    answer = client.get(reverse("console:search"), {"q": query}, headers=ONLY_HITS)
    assert answer.status_code == 200
    text = answer.content.decode()
    assert "<html" not in text
    return re.findall(r'<li><a href="([^"]+)"[^>]*>.*?<span>(.*?)</span>', text)


@pytest.mark.parametrize(
    ("query", "label"),
    [
        ("foopd", "fooPD"), ("app0", "app01"), ("dat", "data"), ("debian iso", "/iso/debian.iso"), ("54404", "54404"),
        ("tm", "TM3"), ("defau", "default"), ("audit", "Audit"),
    ],
)  # fmt: skip
def test_it_finds_every_kind_of_object_by_parts_of_its_name(reader: Client, rows: Rows, query: str, label: str) -> None:
    assert label in [found for _, found in _hits(reader, query)]


def test_it_puts_the_exact_name_first(reader: Client, rows: Rows) -> None:
    for name in ("a-web", "web", "web-2"):
        make_domain(name)
    assert [label for _, label in _hits(reader, "WEB")] == ["web", "web-2", "a-web"]


def test_it_offers_orders_to_those_who_may_give_them(operator: Client, reader: Client, rows: Rows) -> None:
    assert (reverse("dp:migrate", args=[rows.domain.pk]), "Migrate: fooPD") in _hits(operator, "migr foo")
    assert (reverse("dp:take-snapshot", args=[rows.domain.pk]), "Take snapshot: fooPD") in _hits(operator, "take foo")
    assert not any(label.startswith("Activate") for _, label in _hits(operator, "act foo"))
    assert not _hits(reader, "migr foo")
    assert not any(label.startswith("New") for _, label in _hits(reader, ""))


def test_it_offers_activate_where_the_domain_is_not_active(operator: Client, rows: Rows) -> None:
    asleep = make_domain("asleep", mode="inactive", phase="INACTIVE")
    assert (reverse("dp:activate", args=[asleep.pk]), "Activate: asleep") in _hits(operator, "activate asl")
    assert not any(label.startswith("Migrate") for _, label in _hits(operator, "migrate asl"))


@pytest.mark.parametrize("query", ["%", "_", "\\", "\x00", "'; DROP TABLE", "ä" * 5000, "a " * 500, "<script>alert(1)"])
def test_it_takes_any_text_for_a_name(reader: Client, rows: Rows, query: str) -> None:
    answer = reader.get(reverse("console:search"), {"q": query})
    assert answer.status_code == 200
    assert "<script>alert" not in answer.content.decode()


def test_it_is_a_page_and_a_dialog(reader: Client, rows: Rows) -> None:
    page = reader.get(reverse("console:search"), {"q": "foo"}).content.decode()
    dialog = reader.get(reverse("console:search"), {"q": "foo"}, headers=IN_DIALOG).content.decode()
    assert "<html" in page
    assert "<html" not in dialog
    assert "fooPD" in page
    assert "fooPD" in dialog


def test_it_asks_once_per_kind_however_many_rows_there_are(
    operator: Client, rows: Rows, django_assert_max_num_queries: Callable[[int], AbstractContextManager[object]]
) -> None:
    for number in range(30):
        make_domain(f"foo-{number}")
    with django_assert_max_num_queries(16):
        _hits(operator, "foo")


def test_every_key_leads_to_a_page_that_exists(reader: Client, rows: Rows) -> None:
    script = (Path(settings.BASE_DIR) / "static/js/console.js").read_text()
    places = dict(re.findall(r'(\w): "(/[^"]*)"', script.partition("const PLACES")[2].partition("}")[0]))
    listed = reader.get(reverse("console:shortcuts")).content.decode()
    assert len(places) == 9
    for key, address in places.items():
        resolve(address)
        assert f"<kbd>g</kbd> <kbd>{key}</kbd>" in listed
