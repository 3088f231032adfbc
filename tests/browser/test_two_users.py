# SPDX-License-Identifier: Apache-2.0
"""Two operators at one site, each at a console of his own: nothing of the one is lost by the other without a word."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import password
from tests.browser.console import ANSWER_MS, Console
from tests.support.sites import Site

pytestmark = [pytest.mark.browser, pytest.mark.workflow, pytest.mark.slow]

VM = "shared-vm"
GONE = ("status of 404", ": 404 from ", "Status Error Code 404")


@pytest.fixture(scope="module")
def _people(alone: Site, browser: Browser) -> tuple[Console, Console]:
    alone.api.post("containers/", {"name": "shared"}, expect=201)
    alone.api.post("vms/", {"name": VM, "container": "shared", "disks": []}, expect=201)
    anna, ben = Console(browser, alone.address), Console(browser, alone.address)
    for console in (anna, ben):
        console.sign_in("admin", password(alone))
        expect(console.page.get_by_role("heading", name="Can I restore, and from when?")).to_be_visible()
    return anna, ben


@pytest.fixture
def people(_people: tuple[Console, Console]) -> Iterator[tuple[Console, Console]]:
    """Both; the browser may have noted that something is gone, and nothing else."""
    for console in _people:
        console.take_complaints()
    yield _people
    noted = [text for console in _people for text in console.take_complaints()]
    assert [text for text in noted if not any(word in text for word in GONE)] == []


def new_domain(site: Site, name: str) -> str:
    """Its address in the console."""
    made = site.api.post("protection-domains/", {"name": name}, expect=201)
    return f"/data-protection/domains/{made['uuid']}/"


def delete(console: Console, site: Site, name: str) -> None:
    """As an operator, until the domain is gone."""
    console.go("/data-protection/")
    console.link(name).click()
    dialog = console.open_dialog("Delete", "Delete Protection Domain")
    dialog.get_by_label("to confirm").fill(name)
    dialog.get_by_role("button", name="Delete").click()
    console.said(f"{name} is marked for removal")
    site.expire_at(datetime.now(UTC))  # the clean-up of the next minute
    assert not site.api.rows("protection-domains/", name=name)


def test_a_dialog_says_that_its_domain_was_deleted(people: tuple[Console, Console], alone: Site) -> None:
    anna, ben = people
    anna.go(new_domain(alone, "bothDelete"))
    dialog = anna.open_dialog("Delete", "Delete Protection Domain")
    dialog.get_by_label("to confirm").fill("bothDelete")
    delete(ben, alone, "bothDelete")

    dialog.get_by_role("button", name="Delete").click()
    expect(dialog.get_by_role("heading", name="Not found")).to_be_visible()
    expect(dialog.get_by_role("alert")).to_contain_text("may have been deleted")
    expect(dialog.get_by_role("alert")).to_be_focused()
    dialog.get_by_role("link", name="Close").click()
    # The page behind it looks again by itself, and says it, too.
    expect(anna.page.get_by_role("heading", name="Not found")).to_be_visible(timeout=ANSWER_MS)


def test_the_wizard_says_that_its_domain_was_deleted(people: tuple[Console, Console], alone: Site) -> None:
    anna, ben = people
    anna.go(new_domain(alone, "wizardDelete") + "entities/")
    anna.page.get_by_label(VM).check()
    delete(ben, alone, "wizardDelete")
    anna.button("Protect Selected Entities", exact=False).click()
    expect(anna.page.get_by_role("heading", name="Not found")).to_be_visible()
    expect(anna.page.locator("main")).to_contain_text("may have been deleted")
    ben.go(f"/data-protection/inventory/vms/?q={VM}")
    expect(ben.page.get_by_role("row").filter(has_text=VM)).to_contain_text("unprotected")


def test_nobody_writes_over_what_he_has_not_seen(people: tuple[Console, Console], alone: Site) -> None:
    anna, ben = people
    for console in people:
        console.go(f"/data-protection/inventory/vms/?q={VM}")
        console.link(VM).click()
        console.open_dialog("Update", f"Update VM {VM}")
    ben.dialog.get_by_label("Description").fill("payroll, never switch off")
    ben.dialog.get_by_role("button", name="Save").click()
    ben.said(f"VM {VM} was changed.")

    anna.dialog.get_by_label("vCPUs").fill("4")
    anna.dialog.get_by_role("button", name="Save").click()
    said = anna.dialog.get_by_role("alert")
    expect(said).to_contain_text("Somebody else changed this while the form was open")
    expect(said).to_contain_text("Description: payroll, never switch off")
    expect(said).to_be_focused()
    expect(anna.dialog.get_by_label("vCPUs")).to_have_value("4")
    stored = alone.api.rows("vms/", name=VM)[0]
    assert (stored["description"], stored["vcpus"]) == ("payroll, never switch off", 1)

    anna.dialog.get_by_label("Description").fill("payroll, never switch off")
    anna.dialog.get_by_role("button", name="Save").click()
    anna.said(f"VM {VM} was changed.")
    stored = alone.api.rows("vms/", name=VM)[0]
    assert (stored["description"], stored["vcpus"]) == ("payroll, never switch off", 4)


def test_both_protect_the_same_vm(people: tuple[Console, Console], alone: Site) -> None:
    anna, ben = people
    anna.go(new_domain(alone, "first") + "entities/")
    ben.go(new_domain(alone, "second") + "entities/")
    for console in people:
        console.page.get_by_label(VM).check()
        console.button("Protect Selected Entities", exact=False).click()
        console.page.wait_for_load_state()
    anna.said("1 entity is now protected")
    said = ben.page.get_by_role("alert")
    expect(said).to_contain_text(f"{VM} is already protected by first. Unprotect it there first.")
    expect(said).to_be_focused()


def test_a_schedule_that_is_gone_is_not_made_again(people: tuple[Console, Console], alone: Site) -> None:
    anna, ben = people
    domain = alone.domain("first")
    body = {"type": "HOURLY", "every_nth": 1, "local_keep": 2}
    made = alone.api.post(alone.path("first", "schedules"), body, expect=201)
    anna.go(f"/data-protection/schedules/{made['uuid']}/")
    anna.page.get_by_label("Repeat every").fill("3")
    ben.go(f"/data-protection/domains/{domain['uuid']}/?tab=schedules")
    dialog = ben.open_dialog("Remove this schedule", "Remove schedule")
    dialog.get_by_role("button", name="Remove").click()
    expect(ben.page.locator("#pane-body")).to_contain_text("You have no schedules yet")
    anna.button("Save").click()
    expect(anna.page.get_by_role("heading", name="Not found")).to_be_visible()
    assert alone.api.rows("schedules/", domain=domain["uuid"]) == []
