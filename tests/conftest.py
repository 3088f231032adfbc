# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all tests: a real Postgres and a real Redis, started once and only when a test needs them.

`db` of pytest-django reaches Postgres by itself. `database_url` and `redis_url` are for processes that a test starts.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from prism.layout import database_url as make_database_url
from prism.layout import redis_url as make_redis_url
from prism.runtime.postgres import Postgres
from prism.runtime.postgres import environment as postgres_environment
from prism.runtime.redis_server import RedisServer

_START_DEADLINE_SECONDS = 60


#: Folders whose tests share two whole sites: one worker runs all of such a folder, and begins with it.
_TOGETHER = ("workflows", "browser")

#: Names of tests that did not run, with the reason; listed at the end.
_skipped: list[tuple[str, str]] = []


def _scope(nodeid: str) -> str:
    """What one worker runs: a file, or a whole folder of `_TOGETHER`."""
    path = nodeid.partition("::")[0]
    folder = path.split("/")[1]
    return folder if folder in _TOGETHER else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """For `make test`, which uses two workers."""
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = _scope
    return scheduler


@pytest.hookimpl(trylast=True)  # behind pytest-django, which has an order of its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this user or this machine cannot run: `root`, `browser`, and `foreign("program", ...)`.

    The folders of `_TOGETHER` come first: they take longest, and one of two workers has to run each alone.
    """
    items.sort(key=lambda item: _scope(item.nodeid) not in _TOGETHER)
    for item in items:
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        wanted = [name for mark in item.iter_markers("foreign") for name in mark.args]
        if item.get_closest_marker("browser"):
            wanted.append("chromium")
        missing = [name for name in wanted if not shutil.which(name)]
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append((report.nodeid, reason))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """CI runs as root with everything installed: there a skipped test is a failure."""
    if _skipped and os.environ.get("PRISM_NO_SKIPS") == "1":
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _skipped:
        return
    terminalreporter.section(f"{len(_skipped)} tests were skipped")
    for name, reason in _skipped:
        terminalreporter.line(f"{name}: {reason}")
    if os.environ.get("PRISM_NO_SKIPS") == "1":
        terminalreporter.line("Nothing may be skipped in this run (PRISM_NO_SKIPS=1): it has failed.")


@contextmanager
def running(
    command: list[str], log: Path, is_ready: Callable[[], bool], *, stop: signal.Signals, env: dict[str, str]
) -> Iterator[None]:
    """Run a server until the block ends; fail with its log when it does not become ready."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env, cwd="/", start_new_session=True)
        try:
            deadline = time.monotonic() + _START_DEADLINE_SECONDS
            while not is_ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{command[0]} did not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.02)
            yield
        finally:
            process.send_signal(stop)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    """A short folder (unix sockets) for the servers of this test session."""
    folder = Path(tempfile.mkdtemp(prefix="pt-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def pg(servers_dir: Path) -> Iterator[Postgres]:
    """A running Postgres for the test session."""
    server = Postgres(data=servers_dir / "postgres", sockets=servers_dir / "pg", durable=False)
    command = server.command(server.prepare())
    log = servers_dir / "postgres.log"
    with running(command, log, server.is_ready, stop=signal.SIGINT, env=postgres_environment()):
        yield server


@pytest.fixture(scope="session")
def database_url(pg: Postgres, django_db_setup: None) -> str:
    """URL of the (migrated) test database, for child processes; use with `transactional_db`."""
    from django.conf import settings

    return make_database_url(pg.sockets.parent, database=settings.DATABASES["default"]["NAME"])


@pytest.fixture(scope="session")
def redis_server(servers_dir: Path) -> Iterator[RedisServer]:
    server = RedisServer(data=servers_dir / "redis", socket=servers_dir / "redis.sock", durable=False)
    command = server.command(server.prepare())
    with running(command, servers_dir / "redis.log", server.is_ready, stop=signal.SIGTERM, env=dict(os.environ)):
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of an empty Redis database."""
    import redis

    url = make_redis_url(redis_server.socket.parent)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="session")
def django_db_modify_db_settings(pg: Postgres, django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Point Django at the session's Postgres just before pytest-django makes its test database."""
    from django.db import connections

    connections["default"].settings_dict.update(NAME="postgres", USER="prism", HOST=str(pg.sockets), PORT="")
