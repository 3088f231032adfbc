# SPDX-License-Identifier: Apache-2.0
"""One order for 500 volume groups: protect them all and unprotect them all, by mouse and by keyboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.conftest import password
from tests.browser.console import TASK_MS, Console
from tests.browser.hands import HANDS, Hands, hands_of
from tests.support.sites import Site

pytestmark = [pytest.mark.browser, pytest.mark.workflow, pytest.mark.slow]

COUNT = 500
DOMAIN = "bulkPD"


@pytest.fixture(scope="module")
def console(alone: Site, browser: Browser) -> Console:
    alone.api.post("containers/", {"name": "bulk"}, expect=201)
    for number in range(COUNT):
        body = {"name": f"bulk-{number:03}", "container": "bulk", "disks": [{"size_bytes": 1 << 20}]}
        alone.api.post("volume-groups/", body, expect=201)
    alone.api.post("protection-domains/", {"name": DOMAIN}, expect=201)
    made = Console(browser, alone.address)
    made.sign_in("admin", password(alone))
    expect(made.page.get_by_role("heading", name="Can I restore, and from when?")).to_be_visible()
    return made


@pytest.fixture(params=HANDS)
def hands(request: pytest.FixtureRequest, console: Console) -> Iterator[Hands]:
    console.take_complaints()
    made = hands_of(console, request.param)
    yield made
    assert made.bad == []
    assert console.take_complaints() == []


def entities_step(console: Console, hands: Hands) -> tuple[Locator, Locator]:
    """Data Protection, the domain, Update. Returns the unprotected and the protected side."""
    hands.visit("Data Protection")
    hands.press(console.page.locator("main").get_by_role("link", name=DOMAIN))
    hands.press(console.link("Update"))
    cards = console.page.locator(".pair > section")
    expect(cards).to_have_count(2)
    return cards.first, cards.last


def after_the_list(hands: Hands, card: Locator) -> None:
    """Nobody who works with the keyboard walks through 500 rows."""
    if hands.way == "keyboard":
        hands.press(card.get_by_role("link", name="Skip the list"))


def test_it_protects_and_unprotects_500_volume_groups(console: Console, alone: Site, hands: Hands) -> None:
    page = console.page
    left, right = entities_step(console, hands)
    hands.choose(left.get_by_label("Select all"))
    expect(left.locator("[data-count]")).to_have_text(str(COUNT))
    after_the_list(hands, left)
    hands.press(left.get_by_role("button", name="Protect Selected Entities"))
    expect(page.get_by_role("status").filter(has_text=f"{COUNT} entities are now protected")).to_be_visible(
        timeout=TASK_MS
    )
    expect(page.get_by_role("heading", name=f"Protected Entities ({COUNT})", exact=True)).to_be_visible()
    assert len(alone.domain(DOMAIN)["entities"]) == COUNT

    hands.choose(right.get_by_label("Select all"))
    after_the_list(hands, right)
    hands.press(right.get_by_role("button", name="Unprotect Selected Entities"))
    expect(page.get_by_role("status").filter(has_text=f"{COUNT} entities unprotected")).to_be_visible(timeout=TASK_MS)
    expect(page.get_by_role("heading", name="Protected Entities (0)", exact=True)).to_be_visible()
    assert alone.domain(DOMAIN)["entities"] == []
    assert len(alone.api.rows("volume-groups/")) == COUNT


def test_it_refuses_all_when_one_of_them_is_protected_elsewhere_meanwhile(console: Console, alone: Site) -> None:
    hands = hands_of(console, "mouse")
    taken = alone.api.rows("volume-groups/", name="bulk-007")[0]["uuid"]
    alone.api.post("protection-domains/", {"name": "otherPD"}, expect=201)
    left, _ = entities_step(console, hands)
    hands.choose(left.get_by_label("Select all"))
    alone.api.post(alone.path("otherPD", "protect"), {"entities": [taken]})
    hands.press(left.get_by_role("button", name="Protect Selected Entities"))
    said = console.page.get_by_role("alert")
    expect(said).to_contain_text("bulk-007 is already protected by otherPD", timeout=TASK_MS)
    expect(said).to_be_focused()
    assert alone.domain(DOMAIN)["entities"] == []

    # What was ticked and can be protected stands there still, ticked.
    expect(left.locator("[data-count]")).to_have_text(str(COUNT - 1))
    hands.press(left.get_by_role("button", name="Protect Selected Entities"))
    console.said(f"{COUNT - 1} entities are now protected")
