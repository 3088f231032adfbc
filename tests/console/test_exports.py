# SPDX-License-Identifier: Apache-2.0
"""The gear of a table: all rows that the search leaves, as CSV or JSON."""

from __future__ import annotations

import csv
import io
import json

import pytest
from django.test import Client
from django.urls import reverse

from prism.core.models import Task
from tests.console.conftest import Rows, make_domain


def _csv(client: Client, url: str) -> list[dict[str, str]]:
    answer = client.get(url)
    assert answer["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.content.decode())))


def test_it_exports_all_pages_of_what_the_search_leaves(reader: Client, rows: Rows) -> None:
    for number in range(50):
        make_domain(f"tier-{number:02}")
    found = _csv(reader, "/data-protection/?q=tier&sort=-name&export=csv")
    assert [row["name"] for row in found] == [f"tier-{number:02}" for number in reversed(range(50))]
    assert found[0]["mode"] == "active"


def test_it_exports_json_with_numbers_and_nothing(reader: Client, rows: Rows) -> None:
    rows.snapshot.reclaimable_bytes = 4096
    rows.snapshot.save()
    url = reverse("dp:domain", args=[rows.domain.pk])
    answer = reader.get(url + "?tab=local&t_export=json")
    (row,) = json.loads(answer.content)
    assert (row["id"], row["reclaimable_bytes"], row["expiry_time"]) == ("54404", 4096, None)
    assert answer["Content-Disposition"] == 'attachment; filename="fooPD-local.json"'


@pytest.mark.parametrize("url", ["/tasks/", "/events/", "/audit/", "/data-protection/"])
def test_it_offers_both_formats_of_each_table(reader: Client, rows: Rows, url: str) -> None:
    text = reader.get(url).content.decode()
    for kind in ("csv", "json"):
        assert f"export={kind}" in text
        assert reader.get(f"{url}?export={kind}")["Content-Disposition"].endswith(f'.{kind}"')


def test_it_writes_no_cell_that_a_spreadsheet_would_run(reader: Client, rows: Rows) -> None:
    Task.objects.create(kind="x", actor="admin", object_name='=HYPERLINK("evil")')
    cells = [row["object"] for row in _csv(reader, "/tasks/?export=csv")]
    assert '\'=HYPERLINK("evil")' in cells


def test_it_shows_the_page_for_a_format_that_does_not_exist(reader: Client, rows: Rows) -> None:
    assert reader.get("/tasks/?export=exe")["Content-Type"].startswith("text/html")
