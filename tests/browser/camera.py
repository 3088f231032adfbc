# SPDX-License-Identifier: Apache-2.0
"""Takes pictures of one site's console in one look: every page and dialog it finds, and moments that need a press."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from django_otp.oath import totp
from playwright.sync_api import Browser

from tests.browser.console import Console

TO_DIALOG = "a[hx-target='#dialog']"
ANY_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=/)\d+(?=/)")
PASSWORD = "a longer pass phrase"


class Camera:
    """`folder` gets one PNG for each page (whole), each dialog and each moment (as the window shows them)."""

    def __init__(self, browser: Browser, address: str, folder: Path, theme: str, width: int) -> None:
        self.console = Console(browser, address, width=width, height=860 if width > 600 else 844)
        self.console.context.add_cookies([{"name": "prism_theme", "value": theme, "url": self.console.origin}])
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._taken: set[str] = set()

    def shoot(self, name: str, *, whole: bool = True) -> None:
        self.console.page.screenshot(path=self.folder / f"{name}.png", full_page=whole)

    def sign_in(self, user: str, password: str) -> None:
        self.console.sign_in(user, password)
        self.console.page.wait_for_url(lambda url: "/login/" not in url)

    def everything(self, first: list[str]) -> None:
        """Every page that can be reached from `first`, one of each kind, and every dialog on them."""
        todo = [path for path in first if self._new(path)]
        while todo:
            path = todo.pop(0)
            self.console.go(path)
            self.shoot(_name(path))
            self._dialogs()
            todo += [found for found in self.console.links("a[href]:not([hx-target='#dialog'])") if self._new(found)]

    def _new(self, path: str) -> bool:
        kind = ANY_ID.sub("id", path)
        fresh = kind not in self._taken
        self._taken.add(kind)
        return fresh

    def _dialogs(self) -> None:
        page = self.console.page
        todo = self.console.links(TO_DIALOG)
        while todo:
            address = todo.pop(0)
            bare = address.partition("?")[0]
            if not self._new(f"dialog {bare}"):
                continue
            # As its link does, which may stand in a menu or another dialog that is closed by now.
            page.evaluate("(address) => htmx.ajax('GET', address, '#dialog')", address)
            self.console.dialog.locator("h2").first.wait_for()
            self.shoot(f"dialog-{_name(bare)}", whole=False)
            todo += self.console.links(f"dialog {TO_DIALOG}")
            page.evaluate("document.getElementById('dialog').close()")


def _name(path: str) -> str:
    address, _, query = ANY_ID.sub("one", path).partition("?")
    tab = query.replace("=", "-") if query.startswith("tab=") else ""
    return "-".join([*re.findall(r"[a-z]+", address), tab]).rstrip("-") or "home"


def before_sign_in(camera: Camera, tag: str) -> None:
    """The door and a refusal. `tag` makes the name unique, or its limit of attempts is soon reached."""
    console = camera.console
    console.go("/login/")
    camera.shoot("moment-sign-in")
    console.sign_in(f"nobody-{tag}", "wrong")
    console.page.get_by_role("alert").wait_for()
    camera.shoot("moment-sign-in-refused")


def moments(camera: Camera, tag: str) -> None:
    """What only a press shows: menus, hits, refused forms, secrets shown once. `tag` makes names unique."""
    _menus(camera)
    _refused(camera, tag)
    _shown_once(camera, tag)


def _menus(camera: Camera) -> None:
    console, page = camera.console, camera.console.page
    console.go("/data-protection/")
    for place, summary in enumerate(page.locator("details.menu > summary").all()):
        summary.click()
        camera.shoot(f"moment-menu-{place + 1}", whole=False)
        page.keyboard.press("Escape")
        summary.evaluate("(summary) => summary.parentElement.removeAttribute('open')")
    page.keyboard.press("t")
    page.locator("#drawer-list h3").first.wait_for()
    camera.shoot("moment-tasks-drawer", whole=False)
    page.keyboard.press("t")
    page.keyboard.press("Control+k")
    console.dialog.get_by_role("searchbox").press_sequentially("db", delay=100)
    console.dialog.locator("#hits").get_by_text("gold-db").first.wait_for()
    camera.shoot("moment-search-hits", whole=False)
    console.go("/no-such-page/")
    camera.shoot("moment-not-found")


def _refused(camera: Camera, tag: str) -> None:
    console, page = camera.console, camera.console.page
    console.go("/data-protection/domains/new/")
    page.get_by_label("Name").fill("no / slash")
    page.locator("main form[method=post] button.primary").first.click()
    page.locator(".error").first.wait_for()
    camera.shoot("moment-refused-domain-name")
    console.go("/data-protection/remote-sites/new/")
    page.get_by_label("Address of the other site").fill(console.host)
    page.get_by_label("Code").fill("AAAA-BBBB-CCCC")
    console.button("Add Site").click()
    page.locator(".note.bad, .error").first.wait_for()
    camera.shoot("moment-refused-pairing")
    console.go("/data-protection/remote-sites/new/")
    console.button("Show code").click()
    page.locator("code.figure").wait_for()
    camera.shoot("moment-shown-pairing-code")


def _shown_once(camera: Camera, tag: str) -> None:
    """Secrets of an API token, an NBD client and a user, and that user's first minutes."""
    console, page = camera.console, camera.console.page
    for path, shown in (("/tokens/new/", "token"), ("/nbd-clients/new/", "nbd-client")):
        console.go(path)
        page.get_by_label("Name").fill(f"night-{tag}")
        console.button("Create").click()
        page.locator("[data-copy]").first.wait_for()
        camera.shoot(f"moment-shown-{shown}")
    console.go("/users/new/")
    page.get_by_label("Name").fill(f"operator-{tag}")
    page.get_by_label("Operator").check()
    console.button("Create").click()
    page.locator("[data-copy]").first.wait_for()
    camera.shoot("moment-shown-password")
    password = page.locator(".copy code").first.inner_text()
    browser = console.context.browser
    assert browser is not None
    width = (page.viewport_size or {"width": 1366})["width"]
    theme = page.evaluate("document.documentElement.dataset.theme")
    _first_minutes(Camera(browser, console.host, camera.folder, theme, width), f"operator-{tag}", password)
    console.go("/users/")
    camera.shoot("moment-users-two")


def _first_minutes(camera: Camera, user: str, password: str) -> None:
    """A password of one's own, the second step, its codes, and the next sign-in."""
    console, page = camera.console, camera.console.page
    camera.sign_in(user, password)
    camera.shoot("moment-password-forced")
    page.get_by_label("Your password").fill(password)
    page.get_by_label("New password", exact=True).fill(PASSWORD)
    page.get_by_label("New password again").fill(PASSWORD)
    page.locator("main form[method=post] button.primary").first.click()
    page.wait_for_url("**:9440/")
    console.go("/account/second-factor/")
    camera.shoot("moment-second-factor-page")
    secret = page.locator(".copy code").first.inner_text().replace(" ", "")
    code = totp(base64.b32decode(secret + "=" * (-len(secret) % 8)))
    page.get_by_role("textbox", name="Code").fill(f"{code:06d}")
    console.button("Turn on").click()
    page.locator(".codes").wait_for()
    camera.shoot("moment-shown-recovery-codes")
    for path in ("/account/", "/account/second-factor/off/", "/account/second-factor/codes/"):
        console.go(path)
        camera.shoot(f"moment-two-step{path.replace('/', '-').rstrip('-')}")
    console.context.clear_cookies(name=re.compile("session"))
    console.sign_in(user, PASSWORD)
    page.get_by_label("Code").fill("000000")
    console.button("Sign in").click()
    page.get_by_role("alert").or_(page.locator(".error")).first.wait_for()
    camera.shoot("moment-sign-in-code-refused")
    console.take_complaints()
    console.context.close()
