# SPDX-License-Identifier: Apache-2.0
"""The console with JavaScript off: forms are forms, links are links, and every page can be read."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import password
from tests.browser.console import Console
from tests.support.sites import Site

pytestmark = [pytest.mark.browser, pytest.mark.workflow, pytest.mark.slow]

ANY_ID = re.compile(r"[0-9a-f-]{36}|(?<=/)\d+(?=/)")
INVENTORY = "/data-protection/inventory"


@pytest.fixture(scope="module")
def plain(alone: Site, browser: Browser) -> Console:
    """Signed in, which is the first form."""
    console = Console(browser, alone.address, script=False)
    console.sign_in("admin", "wrong")
    expect(console.page.get_by_role("alert")).to_be_visible()
    console.sign_in("admin", password(alone))
    expect(console.page.get_by_role("heading", name="Can I restore, and from when?")).to_be_visible()
    return console


def fill(console: Console, address: str, values: dict[str, str], button: str) -> None:
    """Send the form at an address as a browser without script does."""
    console.go(address)
    main = console.page.locator("main")
    for label, value in values.items():
        main.get_by_label(label).first.fill(value)
    main.get_by_role("button", name=button, exact=True).first.click()


def test_its_forms_make_what_is_to_be_protected(plain: Console) -> None:
    fill(plain, f"{INVENTORY}/containers/new/", {"Name": "default"}, "Create")
    plain.said("default")
    fill(plain, f"{INVENTORY}/vms/new/", {"Name": "web", "First disk": "1 MiB"}, "Create")
    plain.said("VM web was created.")
    fill(plain, f"{INVENTORY}/volume-groups/new/", {"Name": "data", "First disk": "1 MiB"}, "Create")
    plain.said("Volume group data was created.")


def test_a_refused_form_comes_back_with_what_was_typed(plain: Console) -> None:
    fill(plain, f"{INVENTORY}/vms/new/", {"Name": "web", "First disk": "1 MiB"}, "Create")
    field = plain.page.locator("main").get_by_label("Name").first
    assert field.input_value() == "web"
    expect(plain.page.locator("main .error, main [role=alert]").first).to_be_visible()


def test_its_wizard_protects_and_schedules(plain: Console) -> None:
    page = plain.page
    fill(plain, "/data-protection/domains/new/", {"Name": "plainPD"}, "Create")
    page.get_by_label("web").check()
    page.get_by_label("data", exact=True).check()
    page.get_by_role("button", name="Protect Selected Entities").click()
    expect(page.get_by_role("heading", name="Protected Entities (2)", exact=True)).to_be_visible()
    plain.link("Next").click()
    plain.link("New Schedule").click()
    page.get_by_label("Repeat every").fill("2")
    page.get_by_label("Unit").select_option(label="hours")
    plain.button("Create Schedule").click()
    expect(page.get_by_text("Every 2 hours")).to_be_visible()


def test_it_takes_a_snapshot_and_restores_it_as_new_entities(plain: Console) -> None:
    page = plain.page
    plain.go("/data-protection/")
    plain.link("plainPD").click()
    plain.link("Take Snapshot").click()
    page.locator("main").get_by_role("button", name="Save").click()
    page.wait_for_url("**/tasks/*-*/")
    done = page.locator("#task header .badge").filter(has_text="Succeeded")
    for _ in range(60):  # a person presses reload
        if done.is_visible():
            break
        page.wait_for_timeout(500)
        page.reload()
    expect(done).to_be_visible()
    plain.domain("plainPD")
    page.locator("#pane-body").get_by_role("link", name="Restore").first.click()
    page.get_by_label("Create new entities").check()
    page.get_by_label("VM name prefix").fill("back-")
    page.get_by_label("Volume group name prefix").fill("back-")
    page.locator("main").get_by_role("button", name="OK").click()
    page.wait_for_url("**/tasks/*-*/")


def test_its_small_orders_work_too(plain: Console) -> None:
    page = plain.page
    fill(plain, "/tokens/new/", {"Name": "plain"}, "Create")
    expect(page.locator("code", has_text="prism_")).to_be_visible()
    fill(plain, "/users/new/", {"Name": "nina"}, "Create")
    expect(page.get_by_text("one-time password").first).to_be_visible()


def test_every_page_can_be_read(plain: Console) -> None:
    seen: set[str] = set()
    todo = ["/"]
    plain.take_complaints()
    while todo:
        path = todo.pop()
        answer = plain.page.goto(plain.origin + path)
        assert answer is not None
        assert answer.status == 200, path
        expect(plain.page.locator("h1").first).to_be_visible()
        assert plain.page.get_by_text("Loading").count() == 0, path
        for link in plain.links():
            if ANY_ID.sub("*", link) not in seen:
                seen.add(ANY_ID.sub("*", link))
                todo.append(link)
    assert len(seen) > 40, seen
    assert plain.take_complaints() == []
