# SPDX-License-Identifier: Apache-2.0
"""The first look at the console is small: page, style, scripts and icons together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from django.urls import reverse

pytestmark = pytest.mark.django_db

BYTES_MAX = 150_000
"""Uncompressed."""


@pytest.mark.usefixtures("rows")
def test_the_first_load_is_at_most_150_kb(operator: Client) -> None:
    page = operator.get(reverse("console:home")).content
    names = set(re.findall(rb'(?:src|href)="/static/([^"?#]+)', page))
    assert {Path(name.decode()).suffix for name in names} >= {".css", ".js"}
    sizes = {}
    for name in names:
        found = finders.find(re.sub(r"\.[0-9a-f]{12}\.", ".", name.decode()))
        assert found is not None, name
        sizes[name] = Path(str(found)).stat().st_size
    total = len(page) + sum(sizes.values())
    assert total <= BYTES_MAX, sorted(sizes.items(), key=lambda item: -item[1])
    assert total > 50_000  # it did find them
