# SPDX-License-Identifier: Apache-2.0
"""Two whole sites for workflow tests: each a real `manage.py up` with all its parts, driven through API and NBD."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from prism.layout import Layout
from prism.runtime.children import ROOT, site_environment, web_answers
from prism.runtime.procinfo import ProcessId, identify, wait_gone
from prism.runtime.supervisor import recorded_processes
from stargate.control.client import Engine
from stargate.nbd.client import NbdClient
from stargate.nbd.link import NbdError
from stargate.units import MiB
from tests.support.api import Api
from tests.support.loopback import loopback

NBD_PORT = 10809
UP_SECONDS = 240
WAIT_SECONDS = 120
READ_BYTES = 4 * MiB


def wait_for(condition: Callable[[], Any], what: str, *, seconds: float = WAIT_SECONDS) -> Any:
    """Poll until `condition` gives something true; fail with `what` and the last answer."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}; last: {found!r}"
        time.sleep(0.05)
    return found


class Site:
    """One site. Its folder outlives its processes: `kill`, `up`, `move_away` and `bring_back` as often as wanted."""

    def __init__(self, root: Path, name: str, address: str) -> None:
        self.root = root
        self.name = name
        self.address = address
        self.layout = Layout(root / "site1")
        self._up: subprocess.Popen[bytes] | None = None
        self._screens = 0
        self._api: Api | None = None

    # Processes

    def begin_up(self) -> None:
        """`manage.py up` in the background."""
        self.root.mkdir(mode=0o755, exist_ok=True)
        self._screens += 1
        command = [sys.executable, str(ROOT / "manage.py"), "up", "--root", str(self.root), "--sites", "1"]
        with self.screen_file.open("wb") as output:
            self._up = subprocess.Popen(
                [*command, "--listen", self.address, "--name", self.name],
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    def wait_up(self) -> None:
        """Until the screen says so and /readyz agrees; the first time also sign in."""
        process = self._up
        assert process is not None
        deadline = time.monotonic() + UP_SECONDS
        while "Prism DR is running." not in self.screen() or not web_answers(self.address, 9440, path="readyz"):
            assert process.poll() is None, self.screen()
            assert time.monotonic() < deadline, self.screen()
            time.sleep(0.1)
        if self._api is None:
            password = re.search(r"user admin +password (\S+)", self.screen())
            assert password, self.screen()
            api = Api(self.address, self.layout.identity / "web.crt")
            api.sign_in("admin", password[1])
            self._api = api

    def up(self) -> None:
        self.begin_up()
        self.wait_up()

    @property
    def screen_file(self) -> Path:
        return self.root / f"screen-{self._screens}.txt"

    def screen(self) -> str:
        return self.screen_file.read_text(errors="replace")

    def kill(self, *children: str) -> None:
        """kill -9 of every process of the site at one instant, as far as signals go, its supervisor among them.

        Of `children` only, when some are named: the supervisor starts those again.
        """
        process = self._up
        assert process is not None
        if children:
            known = recorded_processes(self.layout)
            for name in children:
                known[name].send(signal.SIGKILL, group=True)
            return
        os.kill(process.pid, signal.SIGSTOP)  # it must not start anything again, nor stop anything in order
        victims = _family(process.pid)
        for victim in victims:
            victim.send(signal.SIGKILL)
        process.kill()
        process.wait()
        left = wait_gone(victims, timeout_seconds=20)
        assert not left, f"kill -9 left {left}"
        self._up = None

    def manage(self, *arguments: str) -> str:
        """A management command of the running site; returns what it printed."""
        config = self.layout.load()
        assert config is not None
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            env=site_environment(self.layout, config),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def expire_at(self, when: datetime) -> None:
        """The leader's clean-up as of `when`: the clock that tests inject."""
        call = "from dataprotection.services import leading, fencing; from datetime import datetime; "
        call += f"leading.run_expiry(datetime.fromisoformat({when.isoformat()!r}), term=fencing.current_term())"
        self.manage("shell", "-c", call)

    def stop(self) -> None:
        """As Ctrl-C. A site that is not running is no error."""
        process, self._up = self._up, None
        if process is None:
            return
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(180) == 0, self.screen()

    @property
    def running(self) -> bool:
        return self._up is not None and self._up.poll() is None

    def move_away(self) -> None:
        self.root.rename(self.root.with_name(f"{self.root.name}-away"))

    def bring_back(self) -> None:
        self.root.with_name(f"{self.root.name}-away").rename(self.root)

    # Doors

    @property
    def api(self) -> Api:
        assert self._api is not None, "the site was never up"
        return self._api

    @property
    def engine(self) -> Engine:
        """For looking only: what is ordered goes through the API."""
        return Engine(self.layout.run)

    def open(self, export: str) -> NbdClient:
        """The export over TCP, as a guest opens it."""
        return NbdClient.tcp(self.address, NBD_PORT, export)

    def uri(self, export: str) -> str:
        return f"nbd://{self.address}:{NBD_PORT}/{export}"

    def checksum(self, export: str) -> str:
        """SHA-256 of all bytes of an export."""
        digest = hashlib.sha256()
        with self.open(export) as client:
            for at in range(0, client.size_bytes, READ_BYTES):
                digest.update(client.read(at, min(READ_BYTES, client.size_bytes - at)))
        return digest.hexdigest()

    def writable(self, exports: Iterable[str]) -> list[str]:
        """Those of `exports` that take writes here now, sorted."""
        found = []
        for export in exports:
            with contextlib.suppress(NbdError, OSError), self.open(export) as guest:
                if not guest.read_only:
                    found.append(export)
        return sorted(found)

    # Looking

    def peer(self, other: Site) -> str:
        """The uuid under which this site knows `other` as a remote site."""
        return str(next(row["uuid"] for row in self.api.rows("remote-sites/") if row["name"] == other.name))

    def domain(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.rows("protection-domains/", name=name)[0]
        return found

    def path(self, name: str, verb: str = "") -> str:
        """Address of a domain or one of its verbs."""
        return f"protection-domains/{self.domain(name)['uuid']}/{f'{verb}/' if verb else ''}"

    def snapshots(self, name: str, **query: object) -> list[dict[str, Any]]:
        """Newest first."""
        rows = self.api.rows("snapshots/", domain=self.domain(name)["uuid"], **query)
        return sorted(rows, key=lambda row: str(row["created_at"]), reverse=True)

    def alerts(self, kind: str) -> list[dict[str, Any]]:
        return self.api.rows("alerts/", kind=kind, unresolved="true")

    # Verbs, as the documented workflow names them

    def take_snapshot(self, name: str, *, to: Site | None = None, **options: object) -> dict[str, Any]:
        """Take Snapshot, now; with `to`, wait until it is there as well. Returns the row of this site."""
        body = {"sites": [self.peer(to)] if to else [], **options}
        order = self.api.post(self.path(name, "take-snapshot"), body, expect=202)
        self.api.done(order["task"]["uuid"])
        row = next(row for row in self.snapshots(name) if row["one_time_uuid"] == order["uuid"])
        if to is not None:
            self.replicated(row["uuid"])
        return row

    def replicated(self, snapshot: str) -> dict[str, Any]:
        """The outgoing replication of a snapshot once it is over; it must have succeeded."""

        def over() -> dict[str, Any] | None:
            rows = self.api.rows("replications/", snapshot=snapshot, direction="out")
            return rows[0] if rows and rows[0]["state"] not in {"PENDING", "RUNNING"} else None

        row: dict[str, Any] = wait_for(over, f"replication of {snapshot}")
        assert row["state"] == "SUCCEEDED", row
        return row

    def migrate(self, name: str, to: Site) -> str:
        """Migrate; returns the task."""
        return self.api.ordered(self.path(name, "migrate"), {"site": self.peer(to)})


def pair(a: Site, b: Site) -> None:
    """Pair with a one-time code: `b` shows it, `a` enters it; both then show the same fingerprint."""
    offer = b.api.post("remote-sites/pairing-code/", expect=201)
    known = a.api.post("remote-sites/pair/", {"host": b.address, "code": offer["code"]})
    there = b.api.rows("remote-sites/")[0]
    assert known["pairing_fingerprint"] == there["pairing_fingerprint"] != ""


def two_sites() -> tuple[Site, Site]:
    """Both up and paired, with a container each."""
    base = Path(tempfile.mkdtemp(prefix="wf-", dir="/tmp"))
    base.chmod(0o755)
    a, b = Site(base / "a", "a", loopback(41)), Site(base / "b", "b", loopback(42))
    try:
        for site in (a, b):
            site.begin_up()
        for site in (a, b):
            site.wait_up()
            site.api.post("containers/", {"name": "default"}, expect=201)
        pair(a, b)
    except BaseException:
        end(a, b)
        raise
    return a, b


def end(*sites: Site) -> None:
    """Stop them and delete the folder that theirs are in."""
    with ExitStack() as steps:
        steps.callback(shutil.rmtree, sites[0].root.parent, ignore_errors=True)
        for site in sites:
            steps.callback(site.stop)


def _family(pid: int) -> list[ProcessId]:
    """All processes below `pid`, whatever session or group they made for themselves."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[ProcessId] = []
    todo = list(parents.get(pid, []))
    while todo:
        number = todo.pop()
        todo += parents.get(number, [])
        identity = identify(number)
        if identity is not None:
            found.append(identity)
    return found
