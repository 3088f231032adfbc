# SPDX-License-Identifier: Apache-2.0
"""One journey, walked with the mouse and with the keyboard. Both know the same few moves."""

from __future__ import annotations

import os
from typing import Protocol

from playwright.sync_api import Locator, expect

from tests.browser.console import Console
from tests.browser.keyboard import Keyboard

HANDS = ("mouse", "keyboard") if os.environ.get("PRISM_LONG_TESTS") else ("keyboard",)
"""What the longest journeys are walked with: by both in `make browser`, by the one that meets more in `make test`."""


class Hands(Protocol):
    """How somebody gives orders at a page."""

    way: str
    """Mouse or keyboard."""
    bad: list[str]
    """What this way of working met and nobody should: stops of Tab without a ring."""

    def press(self, target: Locator) -> None:
        """A link or a button."""

    def write(self, target: Locator, text: str) -> None:
        """In place of what stands in a field."""

    def choose(self, target: Locator) -> None:
        """Tick a box, or take one of several."""

    def visit(self, place: str) -> None:
        """A page of the main menu, by its name there."""


class Mouse:
    """Points and clicks; types only what has to be typed."""

    way = "mouse"

    def __init__(self, console: Console) -> None:
        self.bad: list[str] = []
        self._console = console

    def press(self, target: Locator) -> None:
        target.click()

    def write(self, target: Locator, text: str) -> None:
        target.fill(text)

    def choose(self, target: Locator) -> None:
        target.check()

    def visit(self, place: str) -> None:
        menu = self._console.page.get_by_role("navigation", name="Main")
        menu.locator("summary").click()
        menu.get_by_role("link", name=place, exact=True).click()
        expect(menu.get_by_role("link", name=place, exact=True, include_hidden=True)).to_have_attribute(
            "aria-current", "page"
        )


def hands_of(console: Console, kind: str) -> Hands:
    """`kind`: mouse or keyboard."""
    return Mouse(console) if kind == "mouse" else Keyboard(console.page)


def in_domain(console: Console, hands: Hands, name: str) -> None:
    """Data Protection and the row of the domain."""
    hands.visit("Data Protection")
    hands.press(console.page.locator("main").get_by_role("link", name=name, exact=True))
    expect(console.page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def dialog_of(console: Console, hands: Hands, link: str) -> Locator:
    """The dialog behind an action link of the page, once it can be used: its focus is inside."""
    hands.press(console.link(link))
    console.dialog.wait_for()
    expect(console.dialog.locator(":focus")).to_have_count(1)
    return console.dialog


def order(console: Console, hands: Hands, dialog: Locator, button: str) -> str:
    """Press the button of a dialog and wait for the task it began. Returns the task's uuid."""
    hands.press(dialog.get_by_role("button", name=button, exact=True))
    return console.task_succeeds()
