# SPDX-License-Identifier: Apache-2.0
"""What the replication tests share: an engine that answers orders from memory, and whole remote sites as processes."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from django.utils import timezone

from prism.core.actor import Actor
from prism.layout import Layout, SiteConfig
from replication.choices import SiteStatus
from replication.models import RemoteSite
from stargate.control.server import ControlServer, Orders
from stargate.errors import DamagedData, NotFound, StaleTerm, Unavailable
from stargate.peer.identity import create_identity, fingerprint

ROOT = Path(__file__).resolve().parents[2]
ACTOR = Actor.cli("test")
DEADLINE_SECONDS = 30.0


class MemoryEngine(Orders):
    """Terms, peers and transfers of an engine, over its real control socket. `script` = the answers of sync_status."""

    def __init__(self, run: Path) -> None:
        self.term = 0
        self.incarnation = 1
        self.facts: dict[str, Any] = {}
        self.peers: dict[str, str] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.cancelled: list[tuple[str, str | None]] = []
        self.ended: list[str] = []
        self.away = False
        self.gone: set[str] = set()
        self.script: list[dict[str, Any]] = [progress("done", 100)]
        self.unfolded: set[str] = set()
        self.damaged = False
        self.lock = threading.Lock()
        self.servers = [ControlServer(str(run / name), self) for name in ("stargate.sock", "store.sock")]
        for server in self.servers:
            server.start()

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def do_status(self) -> dict[str, Any]:
        return {"term": self.term, "incarnation": self.incarnation, "store_connected": True, **self.facts}

    def do_claim_term(self, term: int) -> dict[str, Any]:
        with self.lock:
            if term <= self.term:
                raise StaleTerm("a newer leader has claimed its term")
            self.term = term
        return {"term": term}

    def do_peer_set(
        self, site_id: str, name: str, certificate_pem: str, address: str = "", port: int = 0
    ) -> dict[str, Any]:
        self.peers[site_id] = certificate_pem
        return {}

    def do_peer_remove(self, site_id: str) -> dict[str, Any]:
        self.peers.pop(site_id, None)
        return {}

    def do_usage(self) -> dict[str, Any]:
        return {"free_bytes": 1 << 40}

    def do_wait_rooted(self, snapshot: str, timeout_seconds: float) -> dict[str, Any]:
        if self.damaged:
            raise DamagedData("damaged blocks")
        if snapshot in self.gone or snapshot in self.unfolded:
            raise NotFound("the store has not met it")
        return {"snapshot": snapshot}

    def do_snapshot(self, snapshot: str) -> dict[str, Any]:
        if self.away:
            raise Unavailable("the front is away")
        if snapshot in self.gone:
            raise NotFound("no such snapshot")
        return {"snapshot": snapshot}

    def do_sync_start(self, job: str, **arguments: Any) -> dict[str, Any]:
        self.jobs[job] = arguments
        return {"job": job}

    def do_sync_status(self, job: str) -> dict[str, Any]:
        if job not in self.jobs:
            raise NotFound("no such job")
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def do_sync_cancel(self, job: str, session: str | None = None) -> dict[str, Any]:
        self.cancelled.append((job, session))
        return {}

    def do_grant_end(self, session: str) -> dict[str, Any]:
        self.ended.append(session)
        return {}


def progress(state: str, done_bytes: int, **more: Any) -> dict[str, Any]:
    """One answer of sync_status: 1000 bytes in all, a tenth of what is done crossed the wire."""
    return {
        "state": state,
        "phase": "chunks",
        "done_bytes": done_bytes,
        "total_bytes": 1000,
        "wire_bytes": done_bytes // 10,
        "chunks_total": 10,
        "chunks_sent": 1,
        "chunks_deduplicated": 9,
        "error": None,
        **more,
    }


def manifest(number: int, *, domain: uuid.UUID, age: timedelta = timedelta(0)) -> dict[str, Any]:
    """A manifest of format 1 with one disk of 1000 bytes; `number` is its local id and its place in time."""
    created = datetime(2026, 1, 1, tzinfo=timezone.get_default_timezone()) + timedelta(hours=number) - age
    return {
        "format": 1,
        "domain": {"uuid": str(domain), "name": "payroll", "mode_generation": 1},
        "snapshot": {"uuid": str(uuid.uuid4()), "local_id": number, "created_at": created.isoformat()},
        "groups": [],
        "entities": [{"type": "vm", "name": "db", "disks": [{"uuid": str(uuid.uuid4()), "size_bytes": 1000}]}],
        "schedules": [],
    }


def make_site(folder: Path, name: str = "remote", port: int = 1) -> RemoteSite:
    """A paired site whose address nobody listens on."""
    pem = create_identity(folder / f"identity-{name}", name).certificate_pem
    return RemoteSite.objects.create(
        name=name,
        site_uuid=uuid.uuid4(),
        addresses=[{"host": "127.0.0.1", "control_port": port, "data_port": 2009}],
        certificate_pem=pem,
        fingerprint=fingerprint(pem),
        status=SiteStatus.RELATIONSHIP_ESTABLISHED,
        engine_knows=True,
    )


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def make_layout(data: Path, number: int) -> tuple[Layout, SiteConfig]:
    """The data folder of a site on loopback with ports of its own."""
    layout = Layout(data)
    ports = {"web": free_port(), "control": free_port(), "nbd": free_port(), "peer": free_port()}
    config = dataclasses.replace(layout.create(number=number, listen="127.0.0.1"), ports=ports)
    layout.save(config)
    return layout, config


class Cerebro:
    """`manage.py cerebro` of a site, as a process."""

    def __init__(self, layout: Layout, config: SiteConfig, database_url: str, redis_url: str) -> None:
        self.layout, self.config, self.database_url = layout, config, database_url
        self.env = os.environ | {
            "PRISM_DATA": str(layout.data),
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "DJANGO_SETTINGS_MODULE": "prism.settings",
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.config.ports["control"]

    def start(self) -> Cerebro:
        self.log = (self.layout.logs / "cerebro.log").open("ab")
        command = [sys.executable, str(ROOT / "manage.py"), "cerebro"]
        self.process = subprocess.Popen(command, env=self.env, stdout=self.log, stderr=self.log, cwd=ROOT)
        until(self.listening)
        return self

    def listening(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise AssertionError((self.layout.logs / "cerebro.log").read_text()[-3000:])
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
            self.process = None
            self.log.close()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.log.close()

    def command(self, *arguments: str) -> str:
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode:
            raise AssertionError(done.stderr[-3000:])
        return done.stdout.strip()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(query)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []


def until(condition: Any) -> None:
    """Poll; fails at the deadline."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("deadline passed")
        time.sleep(0.02)
