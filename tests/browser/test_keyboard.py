# SPDX-License-Identifier: Apache-2.0
"""The journeys without a mouse: create, protect, snapshot, restore, clone, delete."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.conftest import password
from tests.browser.console import TASK_MS, Console
from tests.browser.keyboard import Keyboard
from tests.support.sites import Site

pytestmark = [pytest.mark.browser, pytest.mark.workflow, pytest.mark.slow]
NAME = "keysPD"


@pytest.fixture(scope="module")
def console(alone: Site, browser: Browser) -> Console:
    made = Console(browser, alone.address)
    alone.api.post("containers/", {"name": "keys"}, expect=201)
    made.go("/login/")
    keys = Keyboard(made.page)
    keys.write(made.page.get_by_label("Username"), "admin")
    keys.write(made.page.get_by_label("Password"), password(alone))
    made.page.keyboard.press("Enter")
    expect(made.page.get_by_role("heading", name="Can I restore, and from when?")).to_be_visible()
    return made


@pytest.fixture
def keys(console: Console) -> Iterator[Keyboard]:
    made = Keyboard(console.page)
    console.take_complaints()
    yield made
    assert made.bad == []
    assert console.take_complaints() == []


def opened(console: Console, keys: Keyboard, name: str) -> Locator:
    """A dialog by its link; the focus is inside."""
    keys.press(console.link(name))
    console.dialog.wait_for()
    expect(console.dialog.locator(":focus")).to_have_count(1)
    return console.dialog


def test_it_creates_a_vm(console: Console, keys: Keyboard) -> None:
    console.go("/data-protection/inventory/vms/")
    dialog = opened(console, keys, "Create VM")
    console.page.keyboard.press("Escape")
    expect(console.dialog).to_have_count(0)
    expect(console.link("Create VM")).to_be_focused()
    dialog = opened(console, keys, "Create VM")
    keys.write(dialog.get_by_label("Name"), "keyboard")
    keys.write(dialog.get_by_label("First disk"), "1 MiB")
    keys.press(dialog.get_by_role("button", name="Create"))
    console.said("VM keyboard was created.")


def test_a_dialog_keeps_the_focus(console: Console, keys: Keyboard) -> None:
    console.go("/data-protection/inventory/vms/")
    dialog = opened(console, keys, "Create VM")
    for _ in range(40):
        console.page.keyboard.press("Tab")
        # From the last stop a browser goes to its own bar, which is the page's body here.
        inside = dialog.evaluate("(d) => document.activeElement === document.body || d.matches(':focus-within')")
        assert inside, console.page.evaluate("document.activeElement.outerHTML")
    console.page.keyboard.press("Escape")


def test_it_protects_with_the_wizard(console: Console, keys: Keyboard) -> None:
    page = console.page
    console.go("/data-protection/domains/new/")
    keys.write(page.locator("main").get_by_label("Name"), NAME)
    page.keyboard.press("Enter")
    keys.press(page.get_by_label("keyboard"), "Space")
    keys.press(page.get_by_role("button", name="Protect Selected Entities"))
    expect(page.get_by_role("heading", name="Protected Entities (1)", exact=True)).to_be_visible()
    keys.press(console.link("Next"))
    keys.press(console.link("New Schedule"))
    keys.press(console.button("Create Schedule"))
    keys.press(console.link("Close"))
    expect(page.get_by_role("navigation", name="Actions")).to_contain_text("Take Snapshot")


def test_it_takes_a_snapshot_and_clones_it(console: Console, keys: Keyboard) -> None:
    console.domain(NAME)
    dialog = opened(console, keys, "Take Snapshot")
    keys.press(dialog.get_by_role("button", name="Save"))
    console.task_succeeds()
    console.domain(NAME)
    keys.press(console.page.locator("#pane-body").get_by_role("link", name="Restore").first)
    page = console.page
    choice = page.get_by_label("Create new entities")
    choice.wait_for()
    keys.tab_to(page.locator("input[type=radio]:checked").first)
    for key in ("ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    expect(choice).to_be_checked()
    keys.write(page.get_by_label("VM name prefix"), "again-")
    keys.press(page.get_by_role("button", name="OK"))
    console.task_succeeds()


def test_it_says_what_stands_in_the_way_of_a_deletion(console: Console, keys: Keyboard) -> None:
    console.domain(NAME)
    dialog = opened(console, keys, "Delete")
    expect(dialog).to_contain_text("Not possible yet")
    keys.press(dialog.get_by_role("link", name="Close"))
    expect(console.dialog).to_have_count(0)


def test_it_deletes_a_domain(console: Console, keys: Keyboard) -> None:
    page = console.page
    console.go("/data-protection/domains/new/")
    keys.write(page.locator("main").get_by_label("Name"), "gonePD")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Protected Entities", exact=False).first).to_be_visible()
    console.domain("gonePD")
    dialog = opened(console, keys, "Delete")
    keys.write(dialog.get_by_label("to confirm"), "gonePD")
    page.keyboard.press("Enter")
    console.said("gonePD is marked for removal")
    with console.no_reload():
        expect(page.locator("main").get_by_role("link", name="gonePD")).to_have_count(0, timeout=TASK_MS)
