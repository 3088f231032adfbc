# SPDX-License-Identifier: Apache-2.0
"""Hands on the keyboard only. Every stop of Tab must show that it has the focus."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

STOPS_MAX = 150

# What the stop looks like with the focus against without it. Script takes the focus away and gives it back at once, so
# that nothing else on the page notices; the ring may be drawn by the label, the row or the shape inside of a drawing.
_SHOWN = """() => {
  const e = document.activeElement;
  if (!e || e === document.body) return "nothing has the focus";
  const said = (what) => what + ": " + e.outerHTML.slice(0, 120);
  const r = e.getBoundingClientRect();
  if ((r.width < 1 || r.height < 1) && !e.labels?.length) return said("an invisible stop");
  const parts = [e, e.parentElement, ...(e.labels || []), ...e.querySelectorAll("svg *, rect, path, circle")];
  const look = (n) => {
    const s = getComputedStyle(n);
    const line = s.outlineStyle === "none" || parseFloat(s.outlineWidth) === 0 ? "" :
      [s.outlineStyle, s.outlineWidth, s.outlineColor].join(" ");
    return [line, s.boxShadow, n instanceof SVGElement ? s.stroke + s.strokeWidth : ""].join("|");
  };
  const focused = parts.map(look);
  e.blur();
  const plain = parts.map(look);
  e.focus({ preventScroll: true });
  return focused.some((one, n) => one !== plain[n]) ? "" : said("no focus ring");
}"""
# Keys behind "g", by the page's name in the main menu.
PLACES = {
    "Home": "h",
    "Data Protection": "d",
    "Inventory": "v",
    "Tasks": "t",
    "Alerts": "a",
    "Events": "e",
    "Audit": "u",
}


class Keyboard:
    """`bad`: stops at which nobody would see where they are."""

    way = "keyboard"

    def __init__(self, page: Page) -> None:
        self.page = page
        self.bad: list[str] = []

    def tab_to(self, target: Locator) -> None:
        """Press Tab until the target has the focus. Raises AssertionError when it is not among the stops."""
        target.wait_for()
        for _ in range(STOPS_MAX):
            if target.evaluate("(e) => e === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
            said = self.page.evaluate(_SHOWN)
            if said.startswith(("no focus ring", "an invisible stop")):
                self.bad.append(f"{self.page.url}: {said}")
        raise AssertionError(f"{target} cannot be reached with Tab at {self.page.url}")

    def press(self, target: Locator, key: str = "Enter") -> None:
        self.tab_to(target)
        self.page.keyboard.press(key)

    def choose(self, target: Locator) -> None:
        """Tick a box with the space bar; among radio buttons Tab comes to one, and the arrows go on to the others."""
        if target.get_attribute("type") != "radio":
            self.tab_to(target)
            if not target.is_checked():
                self.page.keyboard.press("Space")
        else:
            name = target.get_attribute("name")
            buttons = self.page.locator(f'input[type=radio][name="{name}"]')
            taken = buttons.locator(":scope:checked")
            self.tab_to(taken if taken.count() else buttons.first)
            self.page.keyboard.press("Space")
            for _ in range(buttons.count()):
                if target.is_checked():
                    break
                self.page.keyboard.press("ArrowDown")  # behind the last comes the first
        expect(target).to_be_checked()

    def pick(self, target: Locator, label: str) -> None:
        """An entry of a drop-down list, by typing how it begins."""
        self.tab_to(target)
        self.page.keyboard.type(label)

    def visit(self, place: str) -> None:
        """g, then the page's letter, as the list behind "?" says."""
        self.page.keyboard.press("g")
        with self.page.expect_navigation():
            self.page.keyboard.press(PLACES[place])

    def write(self, target: Locator, text: str) -> None:
        """In place of what stands there."""
        self.tab_to(target)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)
