# SPDX-License-Identifier: Apache-2.0
"""A site behind TLS: the whole application on a real port, a real database, a real engine; the client as a process."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.db import connections

from prism.celery import app as celery
from prism.core.actor import Actor
from prism.core.models import Site
from prism.core.services import tokens
from prism.runtime.certificates import CERTIFICATE_FILE, KEY_FILE, ensure_web_certificate
from prism.runtime.children import ROOT
from tests.support.engine_site import EngineSite

Ran = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Served:
    """Where the site answers, what to trust, and a token of its administrator."""

    url: str
    certificate: Path
    token: str


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not news."""


class _ClosingApplication(WSGIHandler):
    """Each request has a thread, and its database connection ends with it."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        answer = super().__call__(environ, start_response)
        connections.close_all()
        return answer


@pytest.fixture(scope="session")
def engine_site() -> Iterator[EngineSite]:
    folder = Path(tempfile.mkdtemp(prefix="cl-", dir="/tmp"))
    site = EngineSite(folder).start()
    yield site
    site.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def served(
    transactional_db: None,
    engine_site: EngineSite,
    settings: Any,
    tmp_path: Path,
) -> Iterator[Served]:
    settings.PRISM_RUN_DIR = engine_site.folder / "run"
    celery.conf.update(task_always_eager=True)  # the worker's part is done where it is ordered
    Site.objects.create(pk=1, uuid=uuid.uuid4(), name="site1", cluster_id=1, incarnation_id=2)
    user = User.objects.create(username="maria", is_superuser=True)
    _, token = tokens.create(user=user, name="client", actor=Actor.cli("test"))
    ensure_web_certificate(tmp_path, site_name="site1", listen="127.0.0.1")
    server = ThreadedWSGIServer(("127.0.0.1", 0), _Quiet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / CERTIFICATE_FILE, tmp_path / KEY_FILE)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.set_app(_ClosingApplication())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Served(f"https://127.0.0.1:{server.server_port}", tmp_path / CERTIFICATE_FILE, token)
    finally:
        celery.conf.update(task_always_eager=False)
        server.shutdown()
        server.server_close()
        thread.join(20)


def run_prism(*arguments: str, stdin: str = "", cwd: Path | None = None, **environment: str) -> Ran:
    """`python -m prism.cli` as its own process, with nothing of this one's configuration."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "prism.cli", *arguments],
        env={**clean, "PYTHONPATH": str(ROOT), "PRISM_CONFIG": "/nonexistent/config.ini", **environment},
        cwd=cwd or "/",
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def prism(served: Served) -> Callable[..., Ran]:
    """The client, told of the site by the environment."""

    def run(*arguments: str, **environment: str) -> Ran:
        known = {"PRISM_SITE": served.url, "PRISM_TOKEN": served.token, "PRISM_CA": str(served.certificate)}
        return run_prism(*arguments, **{**known, **environment})

    return run
