# SPDX-License-Identifier: Apache-2.0
"""One operator at one site's console in a real browser, and everything the browser complains about meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, Response, expect

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
ANSWER_MS = 20_000
TASK_MS = 90_000
# What a refused form answers: its text stands beside the field, and the browser notes the status as an "error".
REFUSED = "status of 422"
NO_PAGE = re.compile(r"^/admin/|/export/|/download/|/disks/[0-9a-f-]+/$|[?&](?!tab=)")


class Console:
    """A signed-in (or not yet) browser window on one site."""

    def __init__(
        self, browser: Browser, address: str, *, width: int = 1366, height: int = 860, script: bool = True
    ) -> None:
        self.origin = f"https://{address}:9440"
        self.host = address
        self.complaints: list[str] = []
        self.context: BrowserContext = browser.new_context(
            ignore_https_errors=True,
            viewport={"width": width, "height": height},
            timezone_id="Europe/Berlin",
            java_script_enabled=script,
        )
        self.context.set_default_timeout(ANSWER_MS)
        self.page: Page = self.context.new_page()
        self._watch(self.page)

    # What must never happen

    def _watch(self, page: Page) -> None:
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("request", self._on_request)
        page.on("response", self._on_response)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and REFUSED not in message.text:
            self.complaints.append(f"{self.page.url}: {message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.hostname != self.host:
            self.complaints.append(f"{self.page.url}: asked another host: {request.url}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400 and response.status != 422:
            self.complaints.append(f"{self.page.url}: {response.status} from {response.url}")

    def take_complaints(self) -> list[str]:
        """All since the last call."""
        found, self.complaints = self.complaints, []
        return found

    # Moving about

    def go(self, path: str) -> None:
        self.page.goto(self.origin + path)

    def sign_in(self, user: str, password: str) -> None:
        self.go("/login/")
        self.page.get_by_label("Username").fill(user)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()

    def link(self, name: str, *, exact: bool = True) -> Locator:
        return self.page.get_by_role("link", name=name, exact=exact).first

    def button(self, name: str, *, exact: bool = True) -> Locator:
        return self.page.get_by_role("button", name=name, exact=exact).first

    @property
    def dialog(self) -> Locator:
        return self.page.locator("dialog[open]")

    def open_dialog(self, name: str, heading: str) -> Locator:
        """Press an action link; its dialog, once it has the heading."""
        self.link(name).click()
        expect(self.dialog.get_by_role("heading", name=heading).first).to_be_visible()
        return self.dialog

    def domain(self, name: str, tab: str = "Local Snapshots") -> None:
        """Data Protection, the row of the domain, one of its lower tabs."""
        self.go("/data-protection/")
        self.link(name).click()
        self.link(tab).click()

    def said(self, text: str) -> None:
        expect(self.page.get_by_role("status").filter(has_text=text)).to_be_visible()

    # Waiting as an operator does: by looking

    @contextmanager
    def no_reload(self) -> Iterator[None]:
        """The page that stands when the block begins is still the same document at its end."""
        self.page.evaluate("window.stillHere = true")
        yield
        assert self.page.evaluate("window.stillHere === true"), f"{self.page.url} was loaded again"

    def task_succeeds(self) -> str:
        """On a task's page: wait until it says so by itself. Returns the task's uuid."""
        self.page.wait_for_url("**/tasks/*-*/")
        with self.no_reload():
            over = self.page.locator("#task header .badge").filter(has_text="Succeeded")
            failed = self.page.locator("#task header .badge").filter(has_text="Failed")
            expect(over.or_(failed)).to_be_visible(timeout=TASK_MS)
            assert over.is_visible(), self.page.locator("#task").inner_text()
        return self.page.url.rstrip("/").rpartition("/")[2]

    def links(self, selector: str = "a[href]") -> list[str]:
        """Pages of the console that this one links to; no downloads, and no tables in another order."""
        absolute = "(all) => all.map((a) => new URL(a.getAttribute('href'), document.baseURI).href)"  # in SVG, too
        found: list[str] = self.page.locator(selector).evaluate_all(absolute)
        paths = (url.removeprefix(self.origin).partition("#")[0] for url in found if url.startswith(self.origin))
        return [path for path in dict.fromkeys(paths) if not NO_PAGE.search(path)]

    def too_wide(self) -> list[str]:
        """Elements that make the page scroll sideways; empty when it does not."""
        found: list[str] = self.page.evaluate(
            """() => document.documentElement.scrollWidth <= innerWidth ? [] :
            Array.from(document.querySelectorAll("body *"))
            .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".table-wrap, .tabs, pre"))
            .map((e) => e.tagName + "." + e.className).slice(0, 5).concat(["page"])"""
        )
        return found
