# SPDX-License-Identifier: Apache-2.0
"""Two paired sites, started once for all workflow tests; a test that killed one finds both running again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sites import Site, end, two_sites


@pytest.fixture(scope="session")
def _both() -> Iterator[tuple[Site, Site]]:
    a, b = two_sites()
    try:
        yield a, b
    finally:
        end(a, b)


@pytest.fixture
def sites(_both: tuple[Site, Site]) -> tuple[Site, Site]:
    for site in _both:
        if not site.running:
            site.up()
    return _both
