# SPDX-License-Identifier: Apache-2.0
"""The back button: after filters, in the wizard, and after an order, which it never gives again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import password
from tests.browser.console import Console
from tests.support.sites import Site

pytestmark = [pytest.mark.browser, pytest.mark.workflow, pytest.mark.slow]

COUNT = 25  # more than one page of a table
DOMAIN = "backPD"
VMS = "/data-protection/inventory/vms/"


@pytest.fixture(scope="module")
def signed_in(alone: Site, browser: Browser) -> Console:
    alone.api.post("containers/", {"name": "back"}, expect=201)
    for number in range(COUNT):
        body = {"name": f"back-{number:02}", "container": "back", "disks": [{"size_bytes": 1 << 20}]}
        alone.api.post("vms/", body, expect=201)
    made = Console(browser, alone.address)
    made.sign_in("admin", password(alone))
    expect(made.page.get_by_role("heading", name="Can I restore, and from when?")).to_be_visible()
    return made


@pytest.fixture
def console(signed_in: Console) -> Iterator[Console]:
    signed_in.take_complaints()
    yield signed_in
    assert signed_in.take_complaints() == []


def orders(site: Site) -> int:
    """Snapshots ordered for the domain so far."""
    return len(site.api.rows("tasks/", kind="snapshot.take"))


def test_it_goes_back_through_search_pages_and_order_of_a_table(console: Console) -> None:
    page = console.page
    search, rows = page.locator("main input[type=search]"), page.locator("main tbody tr")
    console.go(VMS)
    search.fill("back-")
    search.press("Enter")
    expect(page.locator(".pager")).to_contain_text(f"{COUNT} VMs")
    page.get_by_role("link", name="Next page").click()
    expect(rows).to_have_count(COUNT - 20)
    page.get_by_role("columnheader").get_by_role("link", name="Name").click()  # the other way round, from page 1
    expect(rows.first).to_contain_text("back-24")
    rows.first.get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="back-24")).to_be_visible()

    page.go_back()
    expect(rows.first).to_contain_text("back-24")
    expect(search).to_have_value("back-")
    page.go_back()
    expect(rows).to_have_count(COUNT - 20)
    page.go_back()
    expect(rows.first).to_contain_text("back-00")
    page.go_back()
    expect(search).to_have_value("")


def test_it_goes_back_in_the_wizard(console: Console, alone: Site) -> None:
    page = console.page
    console.go("/data-protection/domains/new/")
    page.locator("main").get_by_label("Name").fill(DOMAIN)
    console.button("Create").click()
    page.get_by_label("Entity Name", exact=True).first.fill("back-03")
    console.button("Filter").click()
    page.locator("tbody").get_by_label("back-03").check()
    console.button("Protect Selected Entities", exact=False).click()
    console.said("1 entity is now protected")
    console.link("Next").click()
    expect(page.get_by_text("You have no schedules yet")).to_be_visible()

    page.go_back()
    expect(page.get_by_role("heading", name="Protected Entities (1)", exact=True)).to_be_visible()
    while "/entities/" in page.url:
        page.go_back()
    expect(page.locator("main").get_by_label("Name")).to_be_visible()
    assert len(alone.api.rows("protection-domains/", name=DOMAIN)) == 1
    page.locator("main").get_by_label("Name").fill(DOMAIN)
    console.button("Create").click()
    expect(page.locator("main .error")).to_contain_text(DOMAIN)
    assert [row["name"] for row in alone.domain(DOMAIN)["entities"]] == ["back-03"]


@pytest.mark.parametrize("dialog", [True, False], ids=["dialog", "page"])
def test_it_gives_no_order_again(console: Console, alone: Site, dialog: bool) -> None:
    page, before = console.page, orders(alone)
    address = f"/data-protection/domains/{alone.domain(DOMAIN)['uuid']}/"
    console.go(address if dialog else f"{address}take-snapshot/")
    place = console.open_dialog("Take Snapshot", "Replicate Protection Domain") if dialog else page.locator("main")
    place.get_by_role("button", name="Save").click()
    console.task_succeeds()
    assert orders(alone) == before + 1

    page.reload()
    page.go_back()
    if dialog:
        expect(console.dialog).to_have_count(0)
        expect(page.get_by_role("navigation", name="Actions")).to_contain_text("Take Snapshot")
    else:
        expect(place.get_by_role("button", name="Save")).to_be_visible()
    page.go_forward()
    expect(page.locator("#task header .badge")).to_have_text("Succeeded")
    assert orders(alone) == before + 1


def test_a_form_that_comes_back_from_memory_gives_its_order_once(console: Console, alone: Site) -> None:
    """Some browsers show the very page again, with the token of the order that was given."""
    page, before = console.page, orders(alone)
    address = f"/data-protection/domains/{alone.domain(DOMAIN)['uuid']}/take-snapshot/"
    console.go(address)
    token = page.locator("main [name=form_token]").input_value()
    page.locator("main").get_by_role("button", name="Save").click()
    console.task_succeeds()
    page.go_back()
    page.locator("main [name=form_token]").evaluate("(field, token) => { field.value = token; }", token)
    page.locator("main").get_by_role("button", name="Save").click()
    console.said("This form was already sent.")
    assert orders(alone) == before + 1
