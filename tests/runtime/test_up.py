# SPDX-License-Identifier: Apache-2.0
"""`manage.py up` with everything in it: ready, every process killed, ready again, stopped, continued."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from prism.layout import Layout
from prism.runtime.children import ROOT, web_answers
from prism.runtime.procinfo import ProcessId
from prism.runtime.supervisor import recorded_processes
from tests.support.loopback import loopback

#: Not an address that `make up` uses, so that a running one does not disturb.
ADDRESS = loopback(91)
PORT = 9440
DEADLINE_SECONDS = 240


class Up:
    """One `manage.py up` in the background, with its screen in a file."""

    def __init__(self, root: Path, name: str) -> None:
        self.screen = root / f"{name}.txt"
        command = [sys.executable, str(ROOT / "manage.py"), "up", "--root", str(root), "--sites", "1"]
        with self.screen.open("w") as output:
            self.process = subprocess.Popen(
                [*command, "--listen", ADDRESS, "--name", "berlin"],
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    def text(self) -> str:
        return self.screen.read_text()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.1)

    def until_running(self) -> None:
        self.until(lambda: "Prism DR is running." in self.text())
        self.until(ready)

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)
        assert self.process.wait(180) == 0, self.text()


def ready() -> bool:
    return web_answers(ADDRESS, PORT, path="readyz")


def manage(root: Path, command: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(ROOT / "manage.py"), command, "--root", str(root)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.workflow
@pytest.mark.slow
def test_it_comes_up_survives_the_death_of_everything_and_continues(short_dir: Path) -> None:
    layout = Layout(short_dir / "site1")
    up = Up(short_dir, "first")
    seen: set[ProcessId] = set()
    try:
        up.until_running()
        assert "user admin   password " in up.text()
        identity = json.loads(layout.site_json.read_text())
        assert identity["name"] == "berlin"
        assert manage(short_dir, "status").returncode == 0

        first = recorded_processes(layout)
        seen |= set(first.values())
        assert set(first) == {"postgres", "redis", "stargate-store", "stargate-front", "worker", "cerebro", "web"}
        for process in first.values():
            process.send(signal.SIGKILL)
        up.until(lambda: not set(recorded_processes(layout).values()) & seen and len(recorded_processes(layout)) == 7)
        up.until(ready)
        seen |= set(recorded_processes(layout).values())
        up.interrupt()
        assert [process for process in seen if process.alive()] == []
        assert manage(short_dir, "status").returncode == 1

        up = Up(short_dir, "second")
        up.until_running()
        assert "password as before" in up.text()
        assert json.loads(layout.site_json.read_text()) == identity
        # Supervisor and all: the next start finds stale pid files, sockets and a heartbeat that means nobody.
        left = set(recorded_processes(layout).values())
        up.process.kill()
        up.process.wait()
        for process in left:
            process.send(signal.SIGKILL)

        up = Up(short_dir, "third")
        up.until_running()
        stopped = manage(short_dir, "down")
        assert stopped.returncode == 0, stopped.stderr
        assert up.process.wait(10) == 0
        assert recorded_processes(layout) == {}
    finally:
        if up.process.poll() is None:
            os.killpg(up.process.pid, signal.SIGTERM)
            up.process.wait(180)
