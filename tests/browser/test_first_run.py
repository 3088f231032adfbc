# SPDX-License-Identifier: Apache-2.0
"""From two empty sites to a migrated domain without a mouse: sign in, first entities, pair, protect, migrate.

No address is typed: each page is reached from the one before, by its keys and its links.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import password
from tests.browser.console import TASK_MS, Console
from tests.browser.hands import dialog_of, in_domain, order
from tests.browser.keyboard import Keyboard
from tests.support.sites import Site

pytestmark = [pytest.mark.browser, pytest.mark.workflow, pytest.mark.slow]

Fresh = tuple[Site, Site]
DOMAIN = "firstPD"


@pytest.fixture
def hands(north: Console, south: Console) -> Iterator[tuple[Keyboard, Keyboard]]:
    made = Keyboard(north.page), Keyboard(south.page)
    yield made
    assert [text for keys in made for text in keys.bad] == []


def card(console: Console, heading: str) -> Locator:
    return console.page.locator("section.card").filter(has=console.page.get_by_role("heading", name=heading))


def test_it_signs_in(north: Console, south: Console, fresh: Fresh, hands: tuple[Keyboard, Keyboard]) -> None:
    for console, site, keys in zip((north, south), fresh, hands, strict=True):
        console.go("/")
        expect(console.page.get_by_label("Username")).to_be_focused()
        keys.write(console.page.get_by_label("Username"), "admin")
        keys.write(console.page.get_by_label("Password"), password(site))
        console.page.keyboard.press("Enter")
        expect(console.page.get_by_text("Nothing is protected yet")).to_be_visible()
        expect(console.page.get_by_role("heading", name="No open problems")).to_be_visible()


def test_it_pairs_the_sites(north: Console, south: Console, hands: tuple[Keyboard, Keyboard]) -> None:
    for console, keys in zip((north, south), hands, strict=True):
        keys.press(card(console, "Sites and links").get_by_role("link", name="Remote Site", exact=True))
        expect(console.page.get_by_role("heading", name="Remote Site - Physical Cluster")).to_be_visible()
    hands[1].press(south.button("Show code"))
    code = south.page.locator("code.figure").inner_text()

    hands[0].write(north.page.get_by_label("Address of the other site"), south.host)
    hands[0].write(north.page.get_by_label("Code", exact=True), "AAAA-BBBB-CCCC")
    hands[0].press(north.button("Add Site"))
    expect(
        north.page.locator("main").get_by_role("alert").or_(north.page.locator("[aria-invalid=true]"))
    ).to_be_focused()
    hands[0].write(north.page.get_by_label("Code", exact=True), code)
    hands[0].press(north.button("Add Site"))
    north.said("Paired with south")
    hands[0].press(north.button("Test Connection"))
    north.said("with the pinned certificate")
    hands[1].press(south.link("Done"))
    expect(south.page.get_by_role("link", name="north").first).to_be_visible()


def test_it_makes_a_container_and_a_vm(north: Console, south: Console, hands: tuple[Keyboard, Keyboard]) -> None:
    for console, keys in zip((north, south), hands, strict=True):
        keys.visit("Inventory")
        keys.press(console.link("Storage Containers"))
        dialog = dialog_of(console, keys, "Create container")
        keys.write(dialog.get_by_label("Name"), "gold")
        console.page.keyboard.press("Enter")
        console.said("gold")
    keys = hands[0]
    keys.press(north.link("VMs"))
    dialog = dialog_of(north, keys, "Create VM")
    keys.write(dialog.get_by_label("Name"), "erp")
    keys.write(dialog.get_by_label("First disk"), "1 MiB")
    keys.press(dialog.get_by_role("button", name="Create"))
    north.said("VM erp was created.")


def test_it_protects_the_vm_to_the_other_site(north: Console, hands: tuple[Keyboard, Keyboard]) -> None:
    keys, page = hands[0], north.page
    keys.visit("Home")
    keys.press(card(north, "Can I restore").get_by_role("link", name="Protection Domain"))
    expect(page.locator("main").get_by_label("Name")).to_be_focused()
    page.keyboard.type(DOMAIN)
    page.keyboard.press("Enter")
    keys.choose(page.get_by_label("erp"))
    keys.press(page.get_by_role("button", name="Protect Selected Entities"))
    expect(page.get_by_role("heading", name="Protected Entities (1)", exact=True)).to_be_visible()
    keys.press(north.link("Next"))
    keys.press(north.link("New Schedule"))
    keys.write(page.get_by_label("Repeat every"), "2")
    keys.pick(page.get_by_label("Unit"), "hours")
    keys.choose(page.locator(".keep").filter(has_text="south").get_by_role("checkbox"))
    keys.press(north.button("Create Schedule"))
    expect(page.get_by_text("Every 2 hours")).to_be_visible()
    keys.press(north.link("Close"))
    keys.press(north.link("Remote Snapshots"))
    expect(page.locator("#pane-body tbody tr")).to_have_count(1, timeout=TASK_MS)


def test_it_migrates(north: Console, south: Console, fresh: Fresh, hands: tuple[Keyboard, Keyboard]) -> None:
    in_domain(north, hands[0], DOMAIN)
    dialog = dialog_of(north, hands[0], "Migrate")
    hands[0].choose(dialog.get_by_label("south"))
    hands[0].write(dialog.get_by_label("Type MIGRATE to confirm"), "MIGRATE")
    order(north, hands[0], dialog, "Migrate")
    in_domain(north, hands[0], DOMAIN)
    expect(north.page.get_by_role("navigation", name="Actions")).to_contain_text("Activate")
    in_domain(south, hands[1], DOMAIN)
    expect(south.page.get_by_role("navigation", name="Actions")).to_contain_text("Take Snapshot")
    vm = fresh[1].api.rows("vms/", name="erp")[0]
    with fresh[1].open(vm["disks"][0]["export_name"]) as disk:
        assert not disk.read_only
