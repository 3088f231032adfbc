# SPDX-License-Identifier: Apache-2.0
"""Two whole sites that do not know each other yet, and a browser at each of their consoles."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.console import CHROMIUM, FLAGS, Console
from tests.support.loopback import loopback
from tests.support.sites import Site, end


@pytest.fixture(scope="module")
def fresh() -> Iterator[tuple[Site, Site]]:
    """Nobody has signed in yet, and there is nothing in them."""
    base = Path(tempfile.mkdtemp(prefix="br-", dir="/tmp"))
    base.chmod(0o755)
    north, south = Site(base / "north", "north", loopback(51)), Site(base / "south", "south", loopback(52))
    try:
        for site in (north, south):
            site.begin_up()
        for site in (north, south):
            site.wait_up()
        yield north, south
    finally:
        end(north, south)


@pytest.fixture(scope="module")
def both(fresh: tuple[Site, Site]) -> tuple[Site, Site]:
    """With a container each."""
    for site in fresh:
        site.api.post("containers/", {"name": "default"}, expect=201)
    return fresh


@pytest.fixture(scope="package")
def alone() -> Iterator[Site]:
    """A site of its own, for journeys that need no other."""
    base = Path(tempfile.mkdtemp(prefix="br-", dir="/tmp"))
    base.chmod(0o755)
    site = Site(base / "alone", "alone", loopback(53))
    try:
        site.begin_up()
        site.wait_up()
        yield site
    finally:
        end(site)


def password(site: Site) -> str:
    """Of the first administrator, as `make up` shows it."""
    found = re.search(r"user admin +password (\S+)", site.screen())
    assert found
    return found[1]


# Not for the whole session: while Playwright runs, its event loop keeps Django's synchronous calls away.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def _consoles(fresh: tuple[Site, Site], browser: Browser) -> tuple[Console, Console]:
    north, south = (Console(browser, site.address) for site in fresh)
    return north, south


@pytest.fixture
def consoles(_consoles: tuple[Console, Console]) -> Iterator[tuple[Console, Console]]:
    """Both windows; a test during which the browser complained has failed."""
    for console in _consoles:
        console.take_complaints()
    yield _consoles
    complaints = [text for console in _consoles for text in console.take_complaints()]
    assert complaints == []


@pytest.fixture
def north(consoles: tuple[Console, Console]) -> Console:
    return consoles[0]


@pytest.fixture
def south(consoles: tuple[Console, Console]) -> Console:
    return consoles[1]
