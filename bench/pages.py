# SPDX-License-Identifier: Apache-2.0
"""`make demo-data`: a site with 1,000 VMs, 2,000 domains, 100,000 snapshots and
a million audit rows, and how fast its pages are.

    python -m bench.pages [--requests 200] [--keep] [--scale 1.0]

Brings up a whole site of its own (database, workers, leader, engine, console), fills it, and asks each page over HTTPS
as a signed-in browser does. Lists and pages shall take 200 ms at most, parts of pages 100 ms, the search 150 ms, in 95
of 100 requests. `--keep` leaves the site running to be looked at, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import http.client
import re
import shutil
import signal
import ssl
import sys
import tempfile
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from tests.support.sites import Site

ADDRESS = "127.0.0.59"
LIST_MS, PART_MS, SEARCH_MS = 200.0, 100.0, 150.0
PART = {"HX-Request": "true"}


@dataclass(frozen=True)
class Page:
    """`most_ms`: what 95 of 100 requests may take. `part`: asked for as htmx asks."""

    name: str
    path: str
    most_ms: float
    part: bool = False


def pages(domain: str, vm: str) -> list[Page]:
    """Every list, its parts, and the pages of the largest domain."""
    protection, inventory = "/data-protection/", "/data-protection/inventory/"
    one = f"{protection}domains/{domain}/"
    lists = {
        "home": "/", "overview": f"{protection}overview/", "domains": protection, "VMs": f"{inventory}vms/",
        "remote sites": f"{protection}remote-sites/", "tasks": "/tasks/", "alerts": "/alerts/", "events": "/events/",
        "audit": "/audit/", "domain, local snapshots": f"{one}?tab=local", "domain, timeline": f"{one}?tab=timeline",
        "domain, remote snapshots": f"{one}?tab=remote", "domain, replications": f"{one}?tab=replications",
        "VM": f"{inventory}vms/{vm}/",
    }  # fmt: skip
    found = [Page(name, path, LIST_MS) for name, path in lists.items()]
    deep = {
        "domains, sorted by next, last page": f"{protection}?sort=-next&page=100",
        "domains, search": f"{protection}?q=pd19", "VMs, last page": f"{inventory}vms/?page=50",
        "audit, search": "/audit/?q=pd0042", "audit, page 500": "/audit/?page=500",
        "events, search": "/events/?q=pd0042", "snapshots, last page": f"{one}?tab=local&t_page=500",
        "timeline, year": f"{one}?tab=timeline&span=year",
    }  # fmt: skip
    found += [Page(name, path, LIST_MS) for name, path in deep.items()]
    parts = {"home": "/", "bar": "/bar/", "domains": protection, "tasks": "/tasks/", "timeline": f"{one}?tab=timeline"}
    found += [Page(f"part: {name}", path, PART_MS, part=True) for name, path in parts.items()]
    return [*found, Page("search", "/search/?q=pd12", SEARCH_MS, part=True)]


class Browser:
    """A signed-in session on one connection, which a browser keeps open, too."""

    def __init__(self, site: Site, password: str) -> None:
        self._base = f"https://{site.address}:9440"
        context = ssl.create_default_context(cafile=str(site.layout.identity / "web.crt"))
        self._line = http.client.HTTPSConnection(site.address, 9440, timeout=60, context=context)
        self._cookies: dict[str, str] = {}
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.get("/login/")[1].decode())
        assert token, "no form to sign in with"
        form = {"csrfmiddlewaretoken": token[1], "username": "admin", "password": password, "next": "/keys/"}
        headers = {"Referer": f"{self._base}/login/", "Content-Type": "application/x-www-form-urlencoded"}
        status, _ = self._ask("POST", "/login/", headers, urllib.parse.urlencode(form))
        assert status == 302, f"signing in was answered with {status}"

    def _ask(self, method: str, path: str, headers: dict[str, str], body: str | None = None) -> tuple[int, bytes]:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        self._line.request(method, path, body, {"Cookie": cookies, **headers})
        answer = self._line.getresponse()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self._cookies[key] = rest.partition(";")[0]
        return answer.status, answer.read()

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        return self._ask("GET", path, headers or {})


def measure(browser: Browser, page: Page, requests: int) -> tuple[list[float], int]:
    """Milliseconds of each request, sorted, and the size of the answer."""
    times, size = [], 0
    for _ in range(requests):
        began = time.perf_counter()
        status, body = browser.get(page.path, PART if page.part else {})
        times.append(1000 * (time.perf_counter() - began))
        if status != 200 or b'name="password"' in body:
            raise SystemExit(f"{page.path} answered {status}")
        size = len(body)
    return sorted(times), size


def run(site: Site, requests: int, scale: float) -> int:
    """Fill and measure; how many pages took too long."""
    began = time.monotonic()
    call = f"from bench.demo_rows import *; fill(Sizes().scaled({scale!r}))"
    site.manage("shell", "-c", call)
    print(f"filled in {time.monotonic() - began:.0f} s", flush=True)
    ask = "from dataprotection.models import *; print('ids', ProtectionDomain.objects.get(name='demo-pd0000').pk, "
    ids = re.search(r"ids (\S+) (\S+)", site.manage("shell", "-c", ask + "VM.objects.get(name='demo-vm0000').pk)"))
    password = re.search(r"user admin +password (\S+)", site.screen())
    assert ids, "the rows are not there"
    assert password, site.screen()
    browser = Browser(site, password[1])
    slow = 0
    print(f"{'page':38} {'p50':>7} {'p95':>7} {'bar':>5} ms {'KiB':>6}")
    for page in pages(ids[1], ids[2]):
        measure(browser, page, 3)  # the first ones fill caches
        times, size = measure(browser, page, requests)
        p50, p95 = times[len(times) // 2], times[int(len(times) * 0.95)]
        slow += p95 > page.most_ms
        mark = "  too slow" if p95 > page.most_ms else ""
        print(f"{page.name:38} {p50:7.1f} {p95:7.1f} {page.most_ms:5.0f}    {size / 1024:6.1f}{mark}", flush=True)
    return slow


def main() -> int:
    parser = argparse.ArgumentParser(prog="pages", description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the rows")
    parser.add_argument("--keep", action="store_true", help="leave the site running")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    base = Path(tempfile.mkdtemp(prefix="dem-", dir="/tmp"))
    base.chmod(0o755)
    site = Site(base / "a", "demo", ADDRESS)
    try:
        site.up()
        slow = run(site, options.requests, options.scale)
        print(f"demo-data: {len(pages('', ''))} pages of {options.requests} requests each, {slow} too slow")
        if options.keep:
            print(site.screen())
            signal.sigwait({signal.SIGINT})
        return int(slow > 0)
    finally:
        site.stop()
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
