# SPDX-License-Identifier: Apache-2.0
"""The documented workflow through the pages, on two real sites: each test goes on where the one before stopped.

Bytes are looked at over NBD, so that "succeeded" on a page means that they are really there.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from stargate.units import MiB
from tests.browser.axe import violations
from tests.browser.conftest import password
from tests.browser.console import TASK_MS, Console
from tests.support.sites import Site

pytestmark = [pytest.mark.browser, pytest.mark.workflow, pytest.mark.slow]

Both = tuple[Site, Site]
DOMAIN = "fooPD"
# One page of each kind is enough.
ANY_ID = re.compile(r"[0-9a-f-]{36}|(?<=/)\d+(?=/)")


def _export(site: Site, path: str, name: str) -> str:
    """Export name of the one disk of a VM (`vms/`) or volume group (`volume-groups/`)."""
    row: dict[str, Any] = next(row for row in site.api.rows(path) if row["name"] == name)
    return str(row["disks"][0]["export_name"])


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw image of 4 MiB; its seed is in its name."""
    seed = int(os.environ.get("PRISM_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
    path = tmp_path_factory.mktemp("image") / f"seed-{seed}.raw"
    path.write_bytes(random.Random(seed).randbytes(4 * MiB))
    return path


def test_it_signs_in(north: Console, south: Console, both: Both) -> None:
    north.sign_in("admin", "wrong")
    expect(north.page.get_by_role("alert")).to_be_visible()
    for console, site in zip((north, south), both, strict=True):
        console.sign_in("admin", password(site))
        expect(console.page.get_by_role("heading", name="Can I restore, and from when?")).to_be_visible()


def test_it_pairs_two_sites_by_code(north: Console, south: Console) -> None:
    south.go("/data-protection/remote-sites/new/")
    south.button("Show code").click()
    code = south.page.locator("code.figure").inner_text()

    north.go("/data-protection/")
    north.page.locator("summary", has_text="Remote Site").click()
    north.link("Physical Cluster").click()
    north.page.get_by_label("Address of the other site").fill(south.host)
    north.page.get_by_label("Code").fill("AAAA-BBBB-CCCC")
    north.button("Add Site").click()
    expect(north.page.locator(".note.bad, .error").first).to_be_visible()
    north.page.get_by_label("Code").fill(code)
    north.button("Add Site").click()

    north.said("Paired with south")
    here = north.page.locator("dt", has_text="Pairing").locator("+ dd").inner_text()
    south.go("/data-protection/remote-sites/")
    south.link("north").click()
    assert south.page.locator("dt", has_text="Pairing").locator("+ dd").inner_text() == here != "-"
    north.button("Test Connection").click()
    north.said("with the pinned certificate")


def test_it_creates_a_vm_and_imports_its_disk(north: Console, both: Both, image: Path) -> None:
    north.go("/data-protection/inventory/vms/")
    dialog = north.open_dialog("Create VM", "Create VM")
    dialog.get_by_label("Name").fill("centos")
    dialog.get_by_label("First disk").fill("8 MiB")
    dialog.get_by_role("button", name="Create").click()
    north.said("VM centos was created.")

    north.link("Import").click()
    north.page.get_by_label("Raw image").set_input_files(image)
    north.button("Import").click()
    north.said("were written to")
    with both[0].open(_export(both[0], "vms/", "centos")) as disk:
        assert _sum(disk.read(0, 4 * MiB)) == _sum(image.read_bytes()), image.name


def test_it_creates_a_volume_group_with_a_disk(north: Console) -> None:
    north.go("/data-protection/inventory/volume-groups/")
    dialog = north.open_dialog("Create volume group", "Create volume group")
    dialog.get_by_label("Name").fill("backup_vol")
    dialog.get_by_label("First disk").fill("4 MiB")
    dialog.get_by_role("button", name="Create").click()
    north.said("Volume group backup_vol was created.")
    expect(north.page.locator("code", has_text="nbd://")).to_be_visible()


def test_it_goes_through_the_async_dr_wizard(north: Console) -> None:
    page = north.page
    north.go("/data-protection/")
    page.locator("summary", has_text="Protection Domain").click()
    page.locator("details[open]").get_by_role("link", name="Async DR").click()
    page.get_by_label("Name").fill(DOMAIN)
    north.button("Create").click()

    page.get_by_label("centos").check()
    page.get_by_label("backup_vol").check()
    page.get_by_label("Create a new CG").check()
    page.get_by_role("textbox", name="New CG").fill("app")
    north.button("Protect Selected Entities (2) ›").click()
    expect(page.get_by_role("heading", name="Protected Entities (2)", exact=True)).to_be_visible()

    north.link("Next").click()
    expect(page.get_by_text("You have no schedules yet")).to_be_visible()
    north.link("New Schedule").click()
    page.get_by_label("Repeat every").fill("30")
    page.get_by_label("Unit").select_option(label="minutes")
    expect(page.locator("#schedule-preview")).to_contain_text("16 to 59 minutes is not possible")
    page.get_by_label("Repeat every").fill("1")
    page.get_by_label("Unit").select_option(label="hours")
    page.locator(".keep").filter(has_text="south").get_by_role("checkbox").check()
    expect(page.locator("#schedule-preview li")).to_have_count(5)
    north.button("Create Schedule").click()
    expect(page.get_by_text("Every hour")).to_be_visible()
    north.link("Close").click()
    expect(page.get_by_role("navigation", name="Actions")).to_contain_text("Take Snapshot")


def test_it_takes_a_snapshot_and_replicates_it(north: Console, south: Console) -> None:
    north.domain(DOMAIN)
    dialog = north.open_dialog("Take Snapshot", "Replicate Protection Domain")
    expect(dialog).to_contain_text(
        "Select one or more targets to replicate to. "
        "This is a one time replication that can start now or at a later time."
    )
    dialog.get_by_label("south").check()
    dialog.get_by_role("button", name="Save").click()
    north.task_succeeds()

    north.domain(DOMAIN, "Remote Snapshots")
    with north.no_reload():
        expect(north.page.locator("#pane-body tbody tr")).to_have_count(2, timeout=60_000)
    south.domain(DOMAIN)
    with south.no_reload():
        expect(south.page.locator("#pane-body tbody tr")).to_have_count(2, timeout=60_000)
    expect(south.page.locator("#pane-body")).to_contain_text("Received")


def test_it_says_where_each_entity_can_be_recovered(north: Console) -> None:
    north.domain(DOMAIN)
    dialog = north.open_dialog("Recovery Details", "Recovery Details of")
    row = dialog.get_by_role("row").filter(has_text="centos")
    expect(row.get_by_text("Recoverable", exact=True)).to_have_count(2)
    dialog.get_by_role("button", name="Close").click()
    expect(north.dialog).to_have_count(0)


def test_it_restores_as_new_entities_with_prefixes(north: Console, both: Both, image: Path) -> None:
    north.domain(DOMAIN)
    dialog = north.open_dialog("Restore", "Restore Snapshot")
    expect(dialog).to_contain_text("Restore entities in this protection domain to snapshot")
    dialog.get_by_label("Create new entities").check()
    dialog.get_by_label("VM Name Prefix").fill("clone-")
    dialog.get_by_label("Volume Group Name Prefix").fill("clone-")
    dialog.get_by_role("button", name="OK").click()
    north.task_succeeds()

    north.go("/data-protection/inventory/vms/")
    expect(north.link("clone-centos")).to_be_visible()
    with both[0].open(_export(both[0], "vms/", "clone-centos")) as disk:
        assert _sum(disk.read(0, 4 * MiB)) == _sum(image.read_bytes()), image.name


def test_it_overwrites_what_was_written_after_the_snapshot(north: Console, both: Both, image: Path) -> None:
    export = _export(both[0], "vms/", "centos")
    with both[0].open(export) as disk:
        disk.write(0, b"ransom" * 1000)
        disk.flush()
    north.domain(DOMAIN)
    dialog = north.open_dialog("Restore", "Restore Snapshot")
    dialog.get_by_label("Overwrite existing entities").check()
    dialog.get_by_role("button", name="OK").click()
    north.task_succeeds()
    with both[0].open(export) as disk:
        assert _sum(disk.read(0, 4 * MiB)) == _sum(image.read_bytes()), image.name


def test_it_downloads_a_disk_as_it_was_at_the_snapshot(north: Console, both: Both, image: Path) -> None:
    with both[0].open(_export(both[0], "vms/", "centos")) as disk:
        disk.write(0, b"later" * 1000)
        disk.flush()
    north.domain(DOMAIN)
    # The newest point is the safety snapshot of the overwrite; the one before it was replicated.
    row = north.page.locator("#pane-body tbody tr").filter(has_not_text="Safety").first
    row.get_by_role("link", name="Details", exact=True).click()
    with north.page.expect_download() as download:
        north.dialog.locator("li", has_text="centos").get_by_role("link").click()
    assert _sum(Path(download.value.path()).read_bytes()[: 4 * MiB]) == _sum(image.read_bytes()), image.name
    with both[0].open(_export(both[0], "vms/", "centos")) as disk:
        disk.write(0, image.read_bytes())
        disk.flush()


def test_it_gives_one_order_for_a_double_click(north: Console, both: Both) -> None:
    before = {row["uuid"] for row in both[0].api.rows("tasks/", kind="snapshot.take")}
    north.domain(DOMAIN)
    dialog = north.open_dialog("Take Snapshot", "Replicate Protection Domain")
    dialog.get_by_role("button", name="Save").dblclick()
    made = north.task_succeeds()
    after = {row["uuid"] for row in both[0].api.rows("tasks/", kind="snapshot.take")}
    assert after - before == {made}


def test_it_shows_tasks_in_a_drawer_beside_every_page(north: Console, both: Both) -> None:
    page = north.page
    drawer, opener = page.get_by_role("complementary", name="Tasks"), page.locator("#bar-tasks")
    north.go("/")
    page.keyboard.press("t")
    expect(drawer.get_by_role("heading", name="Tasks", exact=True)).to_be_focused()
    expect(opener).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(opener).to_be_focused()
    page.keyboard.press("Enter")
    expect(drawer.get_by_text("Last finished")).to_be_visible()
    north.go("/events/")  # it stays open from page to page
    with page.expect_response(lambda answer: answer.url.endswith("/tasks/now/") and answer.status == 304):
        expect(drawer.get_by_text("Last finished")).to_be_visible()
    with north.no_reload():
        both[0].take_snapshot(DOMAIN)
        expect(page.locator("#drawer-ends")).to_contain_text(f"Take Snapshot {DOMAIN}: Succeeded", timeout=TASK_MS)
    assert north.too_wide() == []
    page.keyboard.press("t")
    expect(drawer).to_be_hidden()


def test_it_goes_back(north: Console) -> None:
    north.domain(DOMAIN)
    north.link("Entities").click()
    north.link("Schedules").click()
    north.page.go_back()
    expect(north.page.locator("#pane .tabs [aria-current]")).to_have_text("Entities")
    north.page.go_back()
    expect(north.page.locator("#pane .tabs [aria-current]")).to_have_text("Local Snapshots")
    expect(north.dialog).to_have_count(0)


def test_it_migrates_to_the_other_site(north: Console, south: Console, both: Both, image: Path) -> None:
    north.domain(DOMAIN)
    dialog = north.open_dialog("Migrate", "Migrate Protection Domain")
    expect(dialog).to_contain_text("Select a Remote site to migrate this Protection Domain to.")
    dialog.get_by_label("south").check()
    dialog.get_by_label("Type MIGRATE to confirm").fill("yes")
    dialog.get_by_role("button", name="Migrate").click()
    expect(dialog).to_contain_text("Type MIGRATE in capital letters.")
    dialog.get_by_label("south").check()
    dialog.get_by_label("Type MIGRATE to confirm").fill("MIGRATE")
    dialog.get_by_role("button", name="Migrate").click()
    north.task_succeeds()

    north.domain(DOMAIN)
    expect(north.page.get_by_role("navigation", name="Actions")).to_contain_text("Activate")
    south.domain(DOMAIN, "Entities")
    expect(south.page.get_by_role("navigation", name="Actions")).to_contain_text("Take Snapshot")
    south.link("centos").click()
    expect(south.page.locator("code", has_text=f"nbd://{south.host}:10809/")).to_be_visible()
    with both[1].open(_export(both[1], "vms/", "centos")) as disk:
        assert _sum(disk.read(0, 4 * MiB)) == _sum(image.read_bytes()), image.name


def test_it_deactivates_and_activates(south: Console, both: Both, image: Path) -> None:
    south.domain(DOMAIN)
    dialog = south.open_dialog("Deactivate", "Deactivate Protection Domain")
    expect(dialog).to_contain_text("A snapshot of their last state is kept here")
    dialog.get_by_label(f"Type {DOMAIN} to confirm").fill(DOMAIN)
    dialog.get_by_role("button", name="Deactivate").click()
    south.task_succeeds()

    south.domain(DOMAIN)
    dialog = south.open_dialog("Activate", "Activate Protection Domain")
    expect(dialog).to_contain_text("What was written after it is lost")
    dialog.get_by_label("I know that").check()
    dialog.get_by_role("button", name="Activate").click()
    south.task_succeeds()
    with both[1].open(_export(both[1], "vms/", "centos")) as disk:
        assert _sum(disk.read(0, 4 * MiB)) == _sum(image.read_bytes()), image.name


def _dialogs(console: Console, seen: set[str]) -> Iterator[str]:
    """Opens each kind of dialog of the page, one after the other, and gives its address."""
    for address in console.links("a[hx-target='#dialog']"):
        kind = f"dialog {ANY_ID.sub('*', address.partition('?')[0])}"
        if kind in seen:
            continue
        seen.add(kind)
        console.page.locator(f'a[hx-target="#dialog"][href="{address}"]').first.evaluate("(link) => link.click()")
        console.dialog.locator("h2").first.wait_for()
        yield address
        console.page.evaluate("document.getElementById('dialog').close()")


def test_every_page_and_dialog_can_be_used_by_everybody(south: Console) -> None:
    seen: set[str] = set()
    todo = ["/"]
    found: list[str] = []
    while todo:
        path = todo.pop()
        south.go(path)
        found += [f"{path}: {text}" for text in violations(south.page)]
        for dialog in _dialogs(south, seen):
            found += [f"{path}, dialog {dialog}: {text}" for text in violations(south.page)]
        for link in south.links():
            if ANY_ID.sub("*", link) not in seen:
                seen.add(ANY_ID.sub("*", link))
                todo.append(link)
    assert len(seen) > 40, seen
    print("\n".join(found))
    assert not found


def test_it_shows_every_page_dark_and_narrow(south: Console) -> None:
    page = south.page
    south.go("/")
    page.locator("summary[aria-label*=account]").click()
    south.button("Theme: dark").click()
    page.set_viewport_size({"width": 390, "height": 844})
    try:
        seen: set[str] = set()
        todo = ["/"]
        while todo:
            path = todo.pop()
            south.go(path)
            assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
            assert south.too_wide() == [], path
            for found in south.links():
                if ANY_ID.sub("*", found) not in seen:
                    seen.add(ANY_ID.sub("*", found))
                    todo.append(found)
        assert len(seen) > 40, seen
    finally:
        page.set_viewport_size({"width": 1366, "height": 860})
