# SPDX-License-Identifier: Apache-2.0
"""Ways to bring an order to a stand in the middle, from outside: nothing in the product knows of them."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql

from prism.layout import database_url
from prism.runtime.supervisor import recorded_processes
from tests.support.sites import Site


@contextmanager
def standing_still(site: Site, child: str) -> Iterator[None]:
    """One process of the site does nothing (SIGSTOP). It may be killed meanwhile."""
    process = recorded_processes(site.layout)[child]
    process.send(signal.SIGSTOP, group=True)
    try:
        yield
    finally:
        process.send(signal.SIGCONT, group=True)


@contextmanager
def domain_locked(site: Site, domain: str) -> Iterator[None]:
    """The lock under which a site works on the domain is taken: tasks and peers wait."""
    key = UUID(site.domain(domain)["uuid"]).int & 0x7FFF_FFFF_FFFF_FFFF
    with _database(site) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [key])
        yield


@contextmanager
def table_locked(site: Site, table: str) -> Iterator[None]:
    """Rows of the table can be read but not written: a task that has done its part in the engine waits to say so."""
    with _database(site) as connection, connection.transaction():
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(sql.Identifier(table)))
        yield


@contextmanager
def _database(site: Site) -> Iterator[psycopg.Connection]:
    """A connection to the site's Postgres, which may be killed meanwhile."""
    config = site.layout.load()
    assert config is not None
    url = database_url(Path(config.socket_dir))
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
        yield connection
