# SPDX-License-Identifier: Apache-2.0
"""A refused form (422) takes the focus to what is wrong, ties the words to the field, and keeps what was typed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.axe import violations
from tests.browser.conftest import password
from tests.browser.console import REFUSED, Console
from tests.support.sites import Site

pytestmark = [pytest.mark.browser, pytest.mark.workflow, pytest.mark.slow]

DOMAIN = "refusedPD"
VM = "refused-vm"


@pytest.fixture(scope="module")
def signed_in(alone: Site, browser: Browser) -> Console:
    api = alone.api
    api.post("containers/", {"name": "refused"}, expect=201)
    vm = api.post("vms/", {"name": VM, "container": "refused", "disks": [{"size_bytes": 1 << 20}]}, expect=201)
    api.post("protection-domains/", {"name": DOMAIN}, expect=201)
    api.post(alone.path(DOMAIN, "protect"), {"entities": [vm["uuid"]]})
    made = Console(browser, alone.address)
    made.sign_in("admin", "wrong")
    expect(made.page.get_by_role("alert")).to_be_focused()
    made.sign_in("admin", password(alone))
    expect(made.page.get_by_role("heading", name="Can I restore, and from when?")).to_be_visible()
    return made


@pytest.fixture
def console(signed_in: Console) -> Iterator[Console]:
    signed_in.take_complaints()
    yield signed_in
    assert signed_in.take_complaints() == []


def send(root: Locator, button: str) -> None:
    """Press the button of a form and wait for the refusal."""
    with root.page.expect_response(lambda answer: answer.request.method == "POST") as answered:
        root.get_by_role("button", name=button, exact=True).last.click()
    assert answered.value.status == 422, REFUSED


def refused_at(console: Console, field: Locator, said: str) -> None:
    """The field has the focus, calls itself wrong, and what describes it is there to be read."""
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    texts = []
    for name in (field.get_attribute("aria-describedby") or "").split():
        described = console.page.locator(f'[id="{name}"]')
        expect(described).to_have_count(1)
        expect(described).to_be_visible()
        texts.append(described.inner_text())
    assert said in texts[-1], texts
    assert violations(console.page) == []


def refused_above(console: Console, root: Locator, said: str) -> None:
    """No field is to blame: what is said above the form has the focus."""
    alert = root.get_by_role("alert")
    expect(alert).to_contain_text(said)
    expect(alert).to_be_focused()
    assert violations(console.page) == []


def test_a_dialog_goes_to_the_first_wrong_field(console: Console) -> None:
    console.go("/data-protection/inventory/vms/")
    dialog = console.open_dialog("Create VM", "Create VM")
    dialog.get_by_label("Name").fill(VM)
    dialog.get_by_label("First disk").fill("many")
    send(dialog, "Create")
    refused_at(console, dialog.get_by_label("First disk"), "size")
    expect(dialog.get_by_label("Name")).to_have_value(VM)

    dialog.get_by_label("First disk").fill("1 MiB")
    send(dialog, "Create")
    refused_at(console, dialog.get_by_label("Name"), "already")
    assert dialog.get_by_label("First disk").get_attribute("aria-invalid") is None

    dialog.get_by_label("Name").fill("no/slash")
    dialog.get_by_label("First disk").fill("-1")
    send(dialog, "Create")
    expect(dialog.locator("[aria-invalid]").first).to_be_focused()


def test_a_page_goes_to_its_wrong_field(console: Console) -> None:
    page = console.page
    console.go("/data-protection/domains/new/")
    page.get_by_label("Name").fill(DOMAIN)
    send(page.locator("main"), "Create")
    refused_at(console, page.get_by_label("Name"), DOMAIN)


def test_a_typed_confirmation_is_refused_at_its_field(console: Console, alone: Site) -> None:
    console.domain(DOMAIN)
    dialog = console.open_dialog("Delete", "Delete Protection Domain")
    dialog.get_by_label("to confirm").fill("refusedpd")
    send(dialog, "Delete")
    refused_at(console, dialog.get_by_label("to confirm"), f"Type {DOMAIN}.")
    assert not alone.domain(DOMAIN)["marked_for_removal"]


def test_a_box_that_must_not_stay_empty_is_refused_at_the_box(console: Console) -> None:
    console.domain(DOMAIN)
    dialog = console.open_dialog("Take Snapshot", "Replicate Protection Domain")
    dialog.get_by_label("LOCAL").uncheck()
    send(dialog, "Save")
    refused_at(console, dialog.get_by_label("LOCAL"), "Tick LOCAL or a remote site.")


def test_an_empty_choice_is_said_beside_the_list(console: Console, alone: Site) -> None:
    uuid = alone.domain(DOMAIN)["uuid"]
    console.go(f"/data-protection/domains/{uuid}/entities/")
    with console.page.expect_response(lambda answer: answer.request.method == "POST"):
        console.button("Protect Selected Entities", exact=False).click()
    refused_above(console, console.page.locator("main"), "Tick at least one")


def test_a_wrong_password_is_refused_at_its_field(console: Console) -> None:
    page = console.page
    console.go("/account/password/")
    fields = page.locator("main input[type=password]")
    for number, text in enumerate(("wrong", "long enough for it", "long enough for that")):
        fields.nth(number).fill(text)
    page.locator("main form").get_by_role("button").last.click()
    expect(page.locator("main [aria-invalid=true]").first).to_be_focused()
    assert violations(page) == []


def test_it_says_that_the_site_does_not_answer(console: Console) -> None:
    console.domain(DOMAIN)
    dialog = console.open_dialog("Take Snapshot", "Replicate Protection Domain")
    console.context.set_offline(True)
    try:
        dialog.get_by_role("button", name="Save").click()
        expect(dialog.get_by_role("alert")).to_contain_text("does not answer")
    finally:
        console.context.set_offline(False)
    noted = [text for text in console.take_complaints() if "ERR_INTERNET_DISCONNECTED" not in text]
    assert all("htmx:sendError" in text or "htmx:afterRequest" in text for text in noted), noted
    dialog.get_by_role("button", name="Save").click()
    console.task_succeeds()
