# SPDX-License-Identifier: Apache-2.0
"""A local site in this process, and a remote one as a process with a database of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from replication_kit import Cerebro, MemoryEngine, make_layout

from prism.layout import database_url as make_database_url
from prism.layout import redis_url as make_redis_url

REMOTE_DATABASE = "remote_site"


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Unix sockets need short paths."""
    folder = Path(tempfile.mkdtemp(prefix="pr-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def engine(short_dir: Path, settings: Any) -> Iterator[MemoryEngine]:
    """The engine of the local site."""
    memory = MemoryEngine(short_dir)
    settings.PRISM_RUN_DIR = short_dir
    yield memory
    memory.stop()


@pytest.fixture
def local(short_dir: Path, settings: Any, redis_url: str, engine: MemoryEngine) -> Any:
    """This process is a site; messages for workers are dropped, tests call the services."""
    settings.LAYOUT, settings.SITE_CONFIG = make_layout(short_dir / "site1", 1)
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis_url}}
    return settings.SITE_CONFIG


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Uuids of the replications whose message went to the queue; nothing reaches a broker."""
    from celery.canvas import Signature

    found: list[str] = []
    monkeypatch.setattr(Signature, "delay", lambda self, *_args: found.append(self.args[0]))
    return found


@pytest.fixture(scope="session")
def remote_database(pg: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A second, migrated database on the session's Postgres."""
    with psycopg.connect(make_database_url(pg.sockets.parent, database="postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {REMOTE_DATABASE}")
    url = make_database_url(pg.sockets.parent, database=REMOTE_DATABASE)
    layout, config = make_layout(tmp_path_factory.mktemp("migrate"), 9)
    Cerebro(layout, config, url, "unix:///nonexistent/redis.sock?db=0").command("migrate", "-v", "0")
    return url


@pytest.fixture(scope="session")
def remote_process(remote_database: str, redis_server: Any) -> Iterator[Cerebro]:
    """The other site's Cerebro, with an engine that answers."""
    folder = Path(tempfile.mkdtemp(prefix="pr-", dir="/tmp"))
    layout, config = make_layout(folder / "site2", 2)
    memory = MemoryEngine(layout.run)
    site = Cerebro(layout, config, remote_database, make_redis_url(redis_server.socket.parent, number=1))
    site.start()
    yield site
    site.stop()
    memory.stop()
    shutil.rmtree(folder)


@pytest.fixture
def there(local: Any, remote_process: Cerebro) -> Cerebro:
    """The other site, running, without a memory of earlier tests."""
    remote_process.rows("TRUNCATE replication_remotesite, replication_pairingcode, core_alert, core_auditrow CASCADE")
    return remote_process
