# SPDX-License-Identifier: Apache-2.0
"""The journeys without a mouse: create, protect, snapshot, restore, clone, delete.

Only the first address is typed; from there every page is reached with its keys and its links.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import password
from tests.browser.console import TASK_MS, Console
from tests.browser.hands import dialog_of, in_domain, order
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


def new_domain(console: Console, keys: Keyboard, name: str) -> None:
    """+ Protection Domain > Async DR > Name."""
    keys.visit("Data Protection")
    keys.press(console.page.locator("main summary", has_text="Protection Domain"))
    keys.press(console.page.locator("main details[open]").get_by_role("link", name="Async DR"))
    expect(console.page.locator("main").get_by_label("Name")).to_be_focused()
    console.page.keyboard.type(name)
    console.page.keyboard.press("Enter")
    expect(console.page.get_by_role("heading", name="Protected Entities", exact=False).first).to_be_visible()


def test_it_notices_a_stop_without_a_ring(console: Console) -> None:
    """The check itself: a shadow that is always there is no ring."""
    keys = Keyboard(console.page)
    link = console.page.locator("main a[href]").first
    link.evaluate("(e) => { e.style.outline = 'none'; e.style.boxShadow = '0 0 4px black'; }")
    keys.tab_to(link)
    assert len(keys.bad) == 1
    assert "no focus ring" in keys.bad[0]


def test_it_creates_a_vm(console: Console, keys: Keyboard) -> None:
    keys.visit("Inventory")
    dialog = dialog_of(console, keys, "Create VM")
    console.page.keyboard.press("Escape")
    expect(console.dialog).to_have_count(0)
    expect(console.link("Create VM")).to_be_focused()
    dialog = dialog_of(console, keys, "Create VM")
    keys.write(dialog.get_by_label("Name"), "keyboard")
    keys.write(dialog.get_by_label("First disk"), "1 MiB")
    keys.press(dialog.get_by_role("button", name="Create"))
    console.said("VM keyboard was created.")


def test_a_dialog_keeps_the_focus(console: Console, keys: Keyboard) -> None:
    keys.visit("Inventory")
    dialog = dialog_of(console, keys, "Create VM")
    for _ in range(40):
        console.page.keyboard.press("Tab")
        # From the last stop a browser goes to its own bar, which is the page's body here.
        inside = dialog.evaluate("(d) => document.activeElement === document.body || d.matches(':focus-within')")
        assert inside, console.page.evaluate("document.activeElement.outerHTML")
    console.page.keyboard.press("Escape")


def test_it_protects_with_the_wizard(console: Console, keys: Keyboard) -> None:
    page = console.page
    new_domain(console, keys, NAME)
    keys.choose(page.get_by_label("keyboard"))
    keys.press(page.get_by_role("button", name="Protect Selected Entities"))
    expect(page.get_by_role("heading", name="Protected Entities (1)", exact=True)).to_be_visible()
    keys.press(console.link("Next"))
    keys.press(console.link("New Schedule"))
    keys.press(console.button("Create Schedule"))
    keys.press(console.link("Close"))
    expect(page.get_by_role("navigation", name="Actions")).to_contain_text("Take Snapshot")


def test_it_takes_a_snapshot_and_clones_it(console: Console, keys: Keyboard) -> None:
    in_domain(console, keys, NAME)
    dialog = dialog_of(console, keys, "Take Snapshot")
    order(console, keys, dialog, "Save")
    in_domain(console, keys, NAME)
    keys.press(console.page.locator("#pane-body").get_by_role("link", name="Restore").first)
    page = console.page
    keys.choose(page.get_by_label("Overwrite existing entities"))
    keys.choose(page.get_by_label("Create new entities"))
    keys.write(page.get_by_label("VM name prefix"), "again-")
    keys.press(page.get_by_role("button", name="OK"))
    console.task_succeeds()


def test_it_says_what_stands_in_the_way_of_a_deletion(console: Console, keys: Keyboard) -> None:
    in_domain(console, keys, NAME)
    dialog = dialog_of(console, keys, "Delete")
    expect(dialog).to_contain_text("Not possible yet")
    keys.press(dialog.get_by_role("link", name="Close"))
    expect(console.dialog).to_have_count(0)


def test_it_deletes_a_domain(console: Console, keys: Keyboard) -> None:
    page = console.page
    new_domain(console, keys, "gonePD")
    in_domain(console, keys, "gonePD")
    dialog = dialog_of(console, keys, "Delete")
    keys.write(dialog.get_by_label("to confirm"), "gonePD")
    page.keyboard.press("Enter")
    console.said("gonePD is marked for removal")
    with console.no_reload():
        expect(page.locator("main").get_by_role("link", name="gonePD")).to_have_count(0, timeout=TASK_MS)
