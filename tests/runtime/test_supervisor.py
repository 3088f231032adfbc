# SPDX-License-Identifier: Apache-2.0
"""The supervisor over real processes: restart, order of stopping, nothing left behind, nothing foreign touched."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from prism.layout import Layout, SiteConfig
from prism.runtime import supervisor as supervisor_module
from prism.runtime.child import ChildFailed
from prism.runtime.children import ChildSpec, site_environment
from prism.runtime.procinfo import ProcessId, identify
from prism.runtime.screen import Screen
from prism.runtime.supervisor import Supervisor, recorded_processes, write_heartbeat

SiteFixture = tuple[Layout, SiteConfig]


def make(specs: list[ChildSpec]) -> tuple[Supervisor, io.StringIO]:
    output = io.StringIO()
    return Supervisor(Screen(output), make_specs=lambda layout, config: specs), output


async def eventually(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def pid_of(supervisor: Supervisor, name: str) -> ProcessId:
    found = next(c.status.process for c in supervisor.sites[0].children if c.spec.name == name)
    assert found is not None
    return found


def test_it_restarts_a_killed_child_and_says_so(site: SiteFixture, child_spec: Callable[..., ChildSpec]) -> None:
    supervisor, output = make([child_spec("engine")])

    async def scenario() -> None:
        started = supervisor.add(*site)
        await supervisor.start_stage(started, 0)
        first = pid_of(supervisor, "engine")
        os.kill(first.pid, signal.SIGKILL)
        child = started.children[0]
        await eventually(lambda: child.status.state == "ready" and child.status.process != first)
        assert not first.alive()
        await supervisor.stop_all()

    run(scenario)
    assert "engine was killed by SIGKILL; starting it again at once" in output.getvalue()
    assert "engine is running again" in output.getvalue()


def test_it_waits_longer_before_each_restart_in_a_row(
    site: SiteFixture, child_spec: Callable[..., ChildSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prism.runtime.child.FIRST_DELAY_SECONDS", 0.01)
    supervisor, output = make([child_spec("engine")])

    async def scenario() -> None:
        started = supervisor.add(*site)
        await supervisor.start_stage(started, 0)
        child = started.children[0]
        for deaths in range(1, 4):
            os.kill(pid_of(supervisor, "engine").pid, signal.SIGKILL)
            await eventually(lambda n=deaths: child.status.state == "ready" and child.status.restarts == n)  # type: ignore[misc]
        await supervisor.stop_all()

    run(scenario)
    said = [line.partition("starting it again ")[2] for line in output.getvalue().splitlines() if "starting it" in line]
    assert said == ["at once", "in 0.01 s", "in 0.02 s"]


def test_its_processes_keep_their_bytecode(site: SiteFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in site_environment(*site)


def test_it_stops_in_the_opposite_order_and_leaves_nothing(
    site: SiteFixture, child_spec: Callable[..., ChildSpec], short_dir: Path
) -> None:
    order = short_dir / "order"
    note = (
        "signal.signal(signal.SIGTERM, lambda *a: (open({0!r}, 'a').write({1!r} + ' '), sys.exit(0))); "
        "[time.sleep(0.05) for _ in range(12000)]"
    )
    names = ["redis", "engine", "web"]
    supervisor, _ = make([child_spec(name, note.format(str(order), name)) for name in names])
    pids: list[ProcessId] = []

    async def scenario() -> None:
        started = supervisor.add(*site)
        await supervisor.start_stage(started, 0)
        pids.extend(pid_of(supervisor, name) for name in names)
        await supervisor.stop_all()

    run(scenario)
    assert order.read_text().split() == ["web", "engine", "redis"]
    assert [pid for pid in pids if pid.alive()] == []


def test_it_kills_a_child_that_does_not_listen_together_with_its_own_children(
    site: SiteFixture, child_spec: Callable[..., ChildSpec], short_dir: Path
) -> None:
    grandchild = short_dir / "grandchild"
    deaf = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); import subprocess; "
        f"p = subprocess.Popen(['sleep', '600']); pathlib.Path({str(grandchild)!r}).write_text(str(p.pid)); p.wait()"
    )
    supervisor, output = make([child_spec("deaf", deaf, stop_seconds=0.3)])

    async def scenario() -> None:
        started = supervisor.add(*site)
        await supervisor.start_stage(started, 0)
        await eventually(lambda: grandchild.exists() and bool(grandchild.read_text()))
        sleeper = identify(int(grandchild.read_text()))
        await supervisor.stop_all()
        assert sleeper is not None
        await eventually(lambda: not sleeper.alive())

    run(scenario)
    assert "did not stop in" in output.getvalue()


def test_its_children_have_groups_of_their_own_in_its_session(
    site: SiteFixture, child_spec: Callable[..., ChildSpec]
) -> None:
    """The group keeps Ctrl-C away; between sessions nice values count for nothing (autogroups)."""
    names = ["front", "store"]
    supervisor, _ = make([child_spec(name) for name in names])

    async def scenario() -> None:
        started = supervisor.add(*site)
        await supervisor.start_stage(started, 0)
        pids = [pid_of(supervisor, name).pid for name in names]
        assert [os.getpgid(pid) for pid in pids] == pids
        assert {os.getsid(pid) for pid in pids} == {os.getsid(0)}
        await supervisor.stop_all()

    run(scenario)


def test_it_touches_no_foreign_process(site: SiteFixture, child_spec: Callable[..., ChildSpec]) -> None:
    foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        layout, _ = site
        supervisor, _ = make([child_spec("engine")])

        async def scenario() -> None:
            started = supervisor.add(*site)
            await supervisor.start_stage(started, 0)
            await supervisor.stop_all()
            # A heartbeat whose pid now belongs to somebody else (same number, other start time).
            started.children[0].status.process = ProcessId(foreign.pid, 1)
            write_heartbeat(started)

        run(scenario)
        assert recorded_processes(layout) == {}
        supervisor_module.end_orphans(layout, Screen(io.StringIO()))
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_it_ends_what_a_killed_supervisor_left(site: SiteFixture, child_spec: Callable[..., ChildSpec]) -> None:
    layout, _ = site
    # A child that outlives its supervisor: started without the death signal, as seen from a later supervisor.
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        supervisor, _ = make([child_spec("engine")])
        started = supervisor.add(*site)
        started.children[0].status.process = identify(orphan.pid)
        write_heartbeat(started)
        assert set(recorded_processes(layout)) == {"engine"}
        supervisor_module.end_orphans(layout, Screen(io.StringIO()))
        assert orphan.wait(10) == -signal.SIGTERM
    finally:
        orphan.kill()
        orphan.wait()


def test_it_gives_up_on_a_child_that_never_starts_and_shows_its_log(
    site: SiteFixture, child_spec: Callable[..., ChildSpec]
) -> None:
    spec = child_spec("engine", "print('no space on the moon'); sys.exit(3)")
    broken = ChildSpec("engine", 0, spec.prepare, lambda: False, start_seconds=30.0)
    supervisor, output = make([broken])

    async def scenario() -> None:
        started = supervisor.add(*site)
        try:
            with pytest.raises(ChildFailed, match="no space on the moon"):
                await supervisor.start_stage(started, 0)
        finally:
            await supervisor.stop_all()

    run(scenario)
    assert "ended with status 3" in output.getvalue()


def test_its_children_die_with_it(site: SiteFixture, child_spec: Callable[..., ChildSpec], short_dir: Path) -> None:
    spec = child_spec("engine")
    launcher = f"import subprocess, time; subprocess.Popen({spec.prepare()!r}, start_new_session=True); time.sleep(600)"
    supervisor = subprocess.Popen([sys.executable, "-c", launcher])

    async def scenario() -> None:
        await eventually(spec.ready)
        child = identify(int((short_dir / "engine.pid").read_text()))
        assert child is not None
        supervisor.kill()
        supervisor.wait()
        await eventually(lambda: not child.alive())

    run(scenario)
