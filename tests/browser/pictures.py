# SPDX-License-Identifier: Apache-2.0
"""`make pictures`: starts two sites of its own, fills them, and takes a picture of every page and every dialog.

Light and dark, 1366 and 390 pixels wide, one PNG each, in a folder outside the repository. Somebody looks at them.
`--docs docs/img` renews those that the documentation shows.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.console import CHROMIUM, FLAGS, Console
from tests.browser.scene import fill
from tests.support.sites import Site, end, pair

ANY_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=/)\d+(?=/)")
LOOKS = [("light", 1366), ("dark", 1366), ("light", 390), ("dark", 390)]
# What the documentation shows: picture taken -> file in docs/img.
SHOWN = {
    "north-light-1366/home": "home",
    "north-dark-1366/data-protection-domains-one": "domain-dark",
    "north-light-1366/data-protection-overview": "overview",
    "north-light-1366/dialog-data-protection-domains-one-take-snapshot": "take-snapshot",
    "north-light-1366/dialog-data-protection-snapshots-one-restore": "restore",
    "north-light-1366/dialog-data-protection-domains-one-migrate": "migrate",
}


class Camera:
    """Takes pictures of one site in one look."""

    def __init__(self, browser: Browser, site: Site, password: str, folder: Path, theme: str, width: int) -> None:
        self.console = Console(browser, site.address, width=width, height=860 if width > 600 else 844)
        self.folder = folder / f"{site.name}-{theme}-{width}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.taken: set[str] = set()
        self.console.go("/login/")
        self._shoot("sign-in")
        self.console.sign_in("admin", password)
        self.console.page.wait_for_url("**:9440/")
        self.console.context.add_cookies([{"name": "prism_theme", "value": theme, "url": self.console.origin}])

    def _shoot(self, name: str) -> None:
        self.console.page.screenshot(path=self.folder / f"{name}.png", full_page=True)

    def everything(self) -> None:
        """Every page that can be reached, one of each kind, and every dialog on them."""
        todo = ["/"]
        while todo:
            path = todo.pop(0)
            self.console.go(path)
            name = _name(path)
            self._shoot(name)
            for found in self.console.links("a[href]:not([hx-target='#dialog'])"):
                if self._new(found):
                    todo.append(found)
            self._dialogs()

    def _new(self, path: str) -> bool:
        kind = ANY_ID.sub("id", path)
        fresh = kind not in self.taken
        self.taken.add(kind)
        return fresh

    def _dialogs(self) -> None:
        page = self.console.page
        for link in page.locator("a[hx-target='#dialog']").all():
            address = link.get_attribute("href") or ""
            if not self._new(f"dialog {address.partition('?')[0]}"):
                continue
            link.click()
            self.console.dialog.locator("h2").wait_for()
            page.screenshot(path=self.folder / f"dialog-{_name(address)}.png")
            page.evaluate("document.getElementById('dialog').close()")


def _name(path: str) -> str:
    address, _, query = ANY_ID.sub("one", path).partition("?")
    tab = query.replace("=", "-") if query.startswith("tab=") else ""
    return "-".join([*re.findall(r"[a-z]+", address), tab]).rstrip("-") or "home"


def take_all(north: Site, south: Site, passwords: tuple[str, str], out: Path) -> None:
    """All looks of both sites; prints what the browser complained about."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for theme, width in LOOKS:
            for site, password in zip((north, south), passwords, strict=True):
                camera = Camera(browser, site, password, out, theme, width)
                camera.everything()
                print(f"{camera.folder}: {len(list(camera.folder.iterdir()))} pictures")
                for complaint in camera.console.take_complaints():
                    print(f"  {complaint}")
                camera.console.context.close()
        browser.close()


def publish(taken: Path, docs: Path) -> None:
    """Copy what the documentation shows."""
    for source, name in SHOWN.items():
        shutil.copyfile(taken / f"{source}.png", docs / f"{name}.png")


def _password(site: Site) -> str:
    found = re.search(r"user admin +password (\S+)", site.screen())
    if found is None:
        raise SystemExit(site.screen())
    return found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "prism-pictures")
    parser.add_argument("--docs", type=Path, help="also renew the pictures of the documentation in this folder")
    options = parser.parse_args()
    out: Path = options.out
    base = Path(tempfile.mkdtemp(prefix="pic-", dir="/tmp"))
    base.chmod(0o755)
    north, south = Site(base / "a", "north", "127.0.0.57"), Site(base / "b", "south", "127.0.0.58")
    try:
        for site in (north, south):
            site.up()
            site.api.post("containers/", {"name": "default"}, expect=201)
        pair(north, south)
        fill(north, south)
        take_all(north, south, (_password(north), _password(south)), out)
        if options.docs:
            publish(out, options.docs)
    finally:
        end(north, south)


if __name__ == "__main__":
    main()
