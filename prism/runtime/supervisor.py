# SPDX-License-Identifier: Apache-2.0
"""The supervisor: brings the sites of this machine up, keeps them up, and stops them in order."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prism.layout import Layout, SiteConfig
from prism.runtime.child import Child, ChildFailed
from prism.runtime.children import ChildSpec, children, site_environment
from prism.runtime.logs import RotatedFile
from prism.runtime.procinfo import ProcessId, wait_gone
from prism.runtime.screen import Screen

HEARTBEAT_SECONDS = 5.0
HEARTBEAT_FILE = "heartbeat.json"
_STEP_TIMEOUT_SECONDS = 900.0
_ORPHAN_PATIENCE_SECONDS = 15.0

Specs = Callable[[Layout, SiteConfig], list[ChildSpec]]


class StepFailed(Exception):
    """A step of the first start failed; the message carries the end of its output."""


class Interrupted(Exception):
    """The operator asked to stop while the sites were still coming up."""


@dataclass
class Site:
    """One site under supervision."""

    layout: Layout
    config: SiteConfig
    children: list[Child] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.config.name

    def stage(self, number: int) -> list[Child]:
        return [child for child in self.children if child.spec.stage == number]


class Supervisor:
    """Runs the children of several sites in one event loop; `make_specs` is the table of children."""

    def __init__(self, screen: Screen, *, make_specs: Specs = children) -> None:
        self.screen = screen
        self.sites: list[Site] = []
        self._make_specs = make_specs
        self._stop = asyncio.Event()
        self._steps: set[asyncio.subprocess.Process] = set()
        self._beat: asyncio.Task[None] | None = None

    def add(self, layout: Layout, config: SiteConfig) -> Site:
        """Take a site into care. What a killed supervisor left of it must be ended before (`end_orphans`)."""
        site = Site(layout, config)
        specs = self._make_specs(layout, config)
        site.children = [Child(config.name, spec, layout.logs, self.screen.say) for spec in specs]
        self.sites.append(site)
        return site

    def catch_signals(self) -> None:
        """Ctrl-C, `kill` and a closed terminal all mean: stop in order."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.request_stop)

    def request_stop(self) -> None:
        if not self._stop.is_set():
            self.screen.say("\nStopping (web, cerebro, workers, engine, Redis, Postgres) ...")
        self._stop.set()
        for process in self._steps:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()

    async def start_stage(self, site: Site, number: int) -> None:
        """Start the children of one stage together and tick them off as they become ready."""
        if self._beat is None:
            self._beat = asyncio.create_task(self._beat_forever())
        starts = [asyncio.create_task(self._start(site, child)) for child in site.stage(number)]
        try:
            await asyncio.gather(*starts)
        finally:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)

    async def _start(self, site: Site, child: Child) -> None:
        self._check_stop()
        started = time.monotonic()
        try:
            await self._or_stop(child.start())
        except ChildFailed as error:
            self.screen.failed(site.name, child.spec.name, str(error).partition("\n")[0])
            raise
        self.screen.done(site.name, child.spec.name, time.monotonic() - started, child.spec.address)

    async def _or_stop(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`, but leave it when the operator wants to stop."""
        task = asyncio.ensure_future(work)
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._check_stop()
        await task

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Interrupted

    async def run_step(self, site: Site, title: str, command: Sequence[str]) -> str:
        """Run a command of the first start with the site's environment; returns its output."""
        self._check_stop()
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=site_environment(site.layout, site.config),
            cwd="/",
            start_new_session=True,
        )
        self._steps.add(process)
        try:
            output, errors = await asyncio.wait_for(process.communicate(), _STEP_TIMEOUT_SECONDS)
        except TimeoutError as error:
            process.kill()
            raise StepFailed(f"{title} took longer than {_STEP_TIMEOUT_SECONDS:.0f} s") from error
        finally:
            self._steps.discard(process)
        _keep_log(site.layout.logs / "setup.log", title, errors)
        self._check_stop()
        if process.returncode != 0:
            self.screen.failed(site.name, title, f"see {site.layout.logs / 'setup.log'}")
            raise StepFailed(f"{title}: {errors.decode(errors='replace').strip()[-1500:]}")
        self.screen.done(site.name, title, time.monotonic() - started)
        return output.decode(errors="replace")

    async def wait_for_stop(self) -> None:
        await self._stop.wait()

    async def stop_all(self) -> None:
        """Stop every site, each in the opposite order of its table, the sites beside each other."""
        self._stop.set()
        await asyncio.gather(*(self._stop_site(site) for site in self.sites))
        if self._beat:
            self._beat.cancel()
            await asyncio.gather(self._beat, return_exceptions=True)
        for site in self.sites:
            write_heartbeat(site)

    async def _stop_site(self, site: Site) -> None:
        begun = any(child.status.state != "waiting" for child in site.children)
        for child in reversed(site.children):
            await child.stop()
        if not begun:
            return
        self.screen.say(f"  {site.name:<6} stopped; its data stays in {site.layout.data}")

    async def _beat_forever(self) -> None:
        while True:
            for site in self.sites:
                write_heartbeat(site)
            await asyncio.sleep(HEARTBEAT_SECONDS if not self._starting() else 0.5)

    def _starting(self) -> bool:
        return any(child.status.state == "starting" for site in self.sites for child in site.children)


def _keep_log(path: Path, title: str, errors: bytes) -> None:
    log = RotatedFile(path)
    log.write(f"--- {title}\n".encode() + errors)
    log.close()


def write_heartbeat(site: Site) -> None:
    """Leave the state of all children in run/heartbeat.json, for `make status` and for the next supervisor."""
    content = {
        "at": time.time(),
        "supervisor_pid": os.getpid(),
        "children": {
            child.spec.name: {
                "state": child.status.state,
                "pid": child.status.process.pid if child.status.process else None,
                "started_ticks": child.status.process.started_ticks if child.status.process else None,
                "restarts": child.status.restarts,
                "last_exit": child.status.last_exit,
                "since": child.status.since,
                "address": child.spec.address,
            }
            for child in site.children
        },
    }
    fresh = site.layout.run / f".{HEARTBEAT_FILE}"
    with contextlib.suppress(OSError):  # a full disk must not stop what is running
        fresh.write_text(json.dumps(content), encoding="utf-8")
        fresh.replace(site.layout.run / HEARTBEAT_FILE)


def read_heartbeat(layout: Layout) -> dict[str, dict[str, object]]:
    """Children as the last heartbeat saw them, by name; empty when there is none to read."""
    try:
        content = json.loads((layout.run / HEARTBEAT_FILE).read_text(encoding="utf-8"))
        found = content["children"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def recorded_processes(layout: Layout) -> dict[str, ProcessId]:
    """Those of the last heartbeat that are alive now: the same pid *and* the same start time."""
    found: dict[str, ProcessId] = {}
    for name, child in read_heartbeat(layout).items():
        pid, ticks = child.get("pid"), child.get("started_ticks")
        if isinstance(pid, int) and isinstance(ticks, int) and ProcessId(pid, ticks).alive():
            found[name] = ProcessId(pid, ticks)
    return found


def end_orphans(layout: Layout, screen: Screen) -> None:
    """Wait for, then end, children that outlived a supervisor which was killed."""
    orphans = recorded_processes(layout)
    if not orphans:
        return
    screen.say(f"  Ending what a killed supervisor left: {', '.join(sorted(orphans))}")
    left = wait_gone(list(orphans.values()), timeout_seconds=1.0)
    for process in left:
        process.send(signal.SIGTERM)
    for process in wait_gone(left, timeout_seconds=_ORPHAN_PATIENCE_SECONDS):
        process.send(signal.SIGKILL, group=True)
    wait_gone(left, timeout_seconds=_ORPHAN_PATIENCE_SECONDS)
