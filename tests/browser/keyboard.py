# SPDX-License-Identifier: Apache-2.0
"""Hands on the keyboard only. Every stop of Tab must show that it has the focus."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

STOPS_MAX = 150

_SHOWN = """() => {
  const e = document.activeElement;
  if (!e || e === document.body) return "nothing has the focus";
  const seen = (n) => {
    const s = getComputedStyle(n);
    return (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== "none";
  };
  const r = e.getBoundingClientRect();
  const said = (what) => what + ": " + e.outerHTML.slice(0, 120);
  if (r.width < 1 || r.height < 1) return e.labels?.length ? "" : said("an invisible stop");
  return seen(e) || (e.parentElement && seen(e.parentElement)) ? "" : said("no focus ring");
}"""


class Keyboard:
    """`bad`: stops at which nobody would see where they are."""

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

    def write(self, target: Locator, text: str) -> None:
        """In place of what stands there."""
        self.tab_to(target)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)
