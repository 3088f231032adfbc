# SPDX-License-Identifier: Apache-2.0
"""A site dies; its domain is activated at the other console, and goes home when the site is back. By mouse, by keys.

What is on the disks is looked at over NBD, so that "succeeded" on a page means that the bytes are there.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from stargate.units import MiB
from tests.browser.conftest import password
from tests.browser.console import TASK_MS, Console
from tests.browser.hands import HANDS, Hands, dialog_of, hands_of, in_domain, order
from tests.support.sites import Site, pair, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.workflow, pytest.mark.slow]

Both = tuple[Site, Site]
DISK_BYTES = 4 * MiB


@pytest.fixture(scope="module", params=HANDS)
def kind(request: pytest.FixtureRequest) -> str:
    """What the whole journey is walked with."""
    return str(request.param)


@pytest.fixture(scope="module")
def seed() -> int:
    found = int(os.environ.get("PRISM_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
    print(f"seed {found}")
    return found


@pytest.fixture(scope="module")
def domain(kind: str, both: Both, _consoles: tuple[Console, Console], seed: int) -> str:
    """A domain of one disk of random bytes on north, with a snapshot at south. Both windows are signed in."""
    north, south = both
    if not north.api.rows("remote-sites/"):
        pair(north, south)
        for console, site in zip(_consoles, both, strict=True):
            console.sign_in("admin", password(site))
            expect(console.page.get_by_role("heading", name="Can I restore, and from when?")).to_be_visible()
    body = {"name": f"{kind}-vm", "container": "default", "disks": [{"size_bytes": DISK_BYTES}]}
    vm = north.api.post("vms/", body, expect=201)
    north.api.post("protection-domains/", {"name": kind}, expect=201)
    north.api.post(north.path(kind, "protect"), {"entities": [vm["uuid"]]})
    with north.open(vm["disks"][0]["export_name"]) as disk:
        disk.write(0, random.Random(f"{seed} {kind}").randbytes(DISK_BYTES))
        disk.flush()
    north.take_snapshot(kind, to=south)
    return kind


@pytest.fixture(scope="module")
def sums() -> dict[str, str]:
    """What the disk must hold, by domain; each step that changes it writes it down."""
    return {}


@pytest.fixture
def hands(kind: str, north: Console, south: Console) -> Iterator[tuple[Hands, Hands]]:
    made = hands_of(north, kind), hands_of(south, kind)
    yield made
    assert [text for one in made for text in one.bad] == []


def _export(site: Site, name: str) -> str:
    return str(site.api.rows("vms/", name=f"{name}-vm")[0]["disks"][0]["export_name"])


def test_it_activates_a_domain_whose_site_is_dead(
    domain: str, both: Both, north: Console, south: Console, hands: tuple[Hands, Hands], sums: dict[str, str]
) -> None:
    sums[domain] = both[0].checksum(_export(both[0], domain))
    north.page.goto("about:blank")
    both[0].kill()

    in_domain(south, hands[1], domain)
    dialog = dialog_of(south, hands[1], "Activate")
    expect(dialog).to_contain_text("use it when the active site is gone")
    hands[1].choose(dialog.get_by_label("I know that"))
    order(south, hands[1], dialog, "Activate")

    in_domain(south, hands[1], domain)
    expect(south.page.get_by_role("navigation", name="Actions")).to_contain_text("Take Snapshot")
    export = _export(both[1], domain)
    assert both[1].checksum(export) == sums[domain]
    with both[1].open(export) as disk:
        disk.write(MiB, b"written while north was dead" * 1000)
        disk.flush()
    sums[domain] = both[1].checksum(export)


def test_it_says_on_the_returned_site_that_another_one_serves(
    domain: str, both: Both, north: Console, south: Console, hands: tuple[Hands, Hands]
) -> None:
    both[0].up()
    wait_for(lambda: both[0].domain(domain)["stale_state"] == "active_elsewhere", "the verdict")
    with both[0].open(_export(both[0], domain)) as disk:
        assert disk.read_only
    north.go("/")
    in_domain(north, hands[0], domain)
    page = north.page
    expect(page.get_by_text("Protection domain active on multiple sites.")).to_be_visible()
    expect(page.locator("[aria-disabled=true]", has_text="Migrate").first).to_contain_text("Deactivate it on one")
    for console, hand in zip((north, south), hands, strict=True):
        hand.visit("Alerts")
        expect(console.page.locator("main")).to_contain_text(domain)


def test_it_deactivates_what_is_stale(domain: str, both: Both, north: Console, hands: tuple[Hands, Hands]) -> None:
    in_domain(north, hands[0], domain)
    dialog = dialog_of(north, hands[0], "Deactivate")
    hands[0].write(dialog.get_by_label(f"Type {domain} to confirm"), domain)
    order(north, hands[0], dialog, "Deactivate")
    in_domain(north, hands[0], domain)
    expect(north.page.get_by_role("navigation", name="Actions")).to_contain_text("Activate")
    wait_for(lambda: not both[1].alerts("active_on_multiple_sites"), "the end of the alert at south")


def test_it_goes_home(
    domain: str, both: Both, north: Console, south: Console, hands: tuple[Hands, Hands], sums: dict[str, str]
) -> None:
    wait_for(lambda: both[1].api.rows("remote-sites/")[0]["status"] != "UNREACHABLE", "south to see north again")
    in_domain(south, hands[1], domain)
    dialog = dialog_of(south, hands[1], "Migrate")
    hands[1].choose(dialog.get_by_label("north"))
    hands[1].write(dialog.get_by_label("Type MIGRATE to confirm"), "MIGRATE")
    order(south, hands[1], dialog, "Migrate")

    in_domain(north, hands[0], domain)
    expect(north.page.get_by_role("navigation", name="Actions")).to_contain_text("Take Snapshot", timeout=TASK_MS)
    assert both[0].checksum(_export(both[0], domain)) == sums[domain]
    in_domain(south, hands[1], domain)
    expect(south.page.get_by_role("navigation", name="Actions")).to_contain_text("Activate")
    assert both[1].writable([_export(both[0], domain)]) == []
