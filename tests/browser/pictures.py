# SPDX-License-Identifier: Apache-2.0
"""`make pictures`: starts two sites of its own, fills them, and takes a picture of every page and every dialog.

Light and dark, 1366 and 390 pixels wide, one PNG each, in a folder outside the repository. Somebody looks at them
(docs/pictures.md). `--docs docs/img` renews those that the documentation shows.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.camera import Camera, before_sign_in, moments
from tests.browser.console import CHROMIUM, FLAGS
from tests.browser.palette import shrink
from tests.browser.scene import fill
from tests.support.sites import Site, end, pair

LOOKS = [("light", 1366), ("dark", 1366), ("light", 390), ("dark", 390)]
# What the documentation shows: picture taken -> file in docs/img.
SHOWN = {
    "north-light-1366/home": "home",
    "north-light-1366/data-protection-overview": "overview",
    "north-light-1366/data-protection-domains-one": "domain",
    "north-dark-1366/data-protection-domains-one-tab-timeline": "timeline-dark",
    "north-light-1366/dialog-data-protection-domains-one-take-snapshot": "take-snapshot",
    "north-light-1366/dialog-data-protection-snapshots-one-restore": "restore",
    "north-light-1366/dialog-data-protection-domains-one-migrate": "migrate",
    "north-dark-1366/moment-search-hits": "search-dark",
    "north-dark-390/home": "home-narrow-dark",
}


def take_fresh(browser: Browser, site: Site, out: Path) -> None:
    """A site on which nothing is yet: what its empty pages teach."""
    for theme, width in (LOOKS[0], LOOKS[3]):
        camera = Camera(browser, site.address, out / f"fresh-{theme}-{width}", theme, width)
        camera.sign_in("admin", _password(site))
        camera.everything(["/"])
        _tell(camera)


def take_all(browser: Browser, sites: tuple[Site, Site], out: Path) -> None:
    """All looks of both sites; the first also in moments that need a press."""
    for theme, width in LOOKS:
        for site in sites:
            camera = Camera(browser, site.address, out / f"{site.name}-{theme}-{width}", theme, width)
            before_sign_in(camera, f"{theme}-{width}")
            camera.sign_in("admin", _password(site))
            domain = f"/data-protection/domains/{site.domain('gold-db')['uuid']}/"
            camera.everything([domain, "/"])
            if site is sites[0]:
                moments(camera, f"{theme}-{width}")
            _tell(camera)


def _tell(camera: Camera) -> None:
    """Say how many, and what the browser complained about; the refusals and the missing page are meant."""
    print(f"{camera.folder}: {len(list(camera.folder.iterdir()))} pictures")
    for complaint in camera.console.take_complaints():
        print(f"  {complaint}")
    camera.console.context.close()


def publish(taken: Path, docs: Path) -> None:
    """Copy what the documentation shows, each with 256 colours at most."""
    for source, name in SHOWN.items():
        shutil.copyfile(taken / f"{source}.png", docs / f"{name}.png")
        shrink(docs / f"{name}.png")


def _password(site: Site) -> str:
    found = re.search(r"user admin +password (\S+)", site.screen())
    if found is None:
        raise SystemExit(site.screen())
    return found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "prism-pictures")
    parser.add_argument("--docs", type=Path, help="also renew the pictures of the documentation in this folder")
    parser.add_argument("--at", nargs=2, default=["127.0.0.57", "127.0.0.58"], help="addresses of the two sites")
    options = parser.parse_args()
    out: Path = options.out
    base = Path(tempfile.mkdtemp(prefix="pic-", dir="/tmp"))
    base.chmod(0o755)
    north, south = (Site(base / name, name, at) for name, at in zip(("north", "south"), options.at, strict=True))
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            for site in (north, south):
                site.up()
            take_fresh(browser, north, out)
            for site in (north, south):
                site.api.post("containers/", {"name": "default"}, expect=201)
            pair(north, south)
            fill(north, south)
            take_all(browser, (north, south), out)
            browser.close()
        if options.docs:
            publish(out, options.docs)
    finally:
        end(north, south)


if __name__ == "__main__":
    main()
