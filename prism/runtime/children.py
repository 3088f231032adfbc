# SPDX-License-Identifier: Apache-2.0
"""The one table of a site's processes: what is started, in which order, when it counts as ready, how it is stopped."""

import os
import signal
import socket
import ssl
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from prism.celery import WORKER_READY_FILE
from prism.layout import Layout, SiteConfig, database_url, redis_url
from prism.runtime import privilege
from prism.runtime.postgres import Postgres
from prism.runtime.postgres import environment as bare_environment
from prism.runtime.redis_server import RedisServer

ROOT = Path(__file__).resolve().parent.parent.parent
QUEUES = ("default", "snapshot", "replicate", "expire")
_PROBE_TIMEOUT_SECONDS = 2.0
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""Set in many containers. With it each restart of the engine, which guests wait for, begins with compiling it."""


@dataclass(frozen=True)
class ChildSpec:
    """One process. `prepare` runs before each start and returns the command; `stage` 0 comes before the migrations."""

    name: str
    stage: int
    prepare: Callable[[], list[str]]
    ready: Callable[[], bool]
    environment: dict[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0
    start_seconds: float = 60.0
    address: str = ""


def site_environment(layout: Layout, config: SiteConfig) -> dict[str, str]:
    """Environment of a site's processes. The operator's `DATABASE_URL` and `REDIS_URL` win."""
    sockets = Path(config.socket_dir)
    own = {
        "PRISM_DATA": str(layout.data),
        "DJANGO_SETTINGS_MODULE": "prism.settings",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "DATABASE_URL": database_url(sockets),
        "REDIS_URL": redis_url(sockets),
    }
    # SSL_CERT_FILE and friends stay as they are: they belong to the machine.
    inherited = {name: value for name, value in os.environ.items() if name != NO_BYTECODE}
    return {**inherited, **own, **_external_servers()}


def _external_servers() -> dict[str, str]:
    return {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL") if os.environ.get(name)}


def children(layout: Layout, config: SiteConfig) -> list[ChildSpec]:
    """All processes of a site in starting order; they are stopped in the opposite order."""
    external = _external_servers()
    specs: list[ChildSpec] = []
    if "DATABASE_URL" not in external:
        specs.append(_postgres(layout, config))
    if "REDIS_URL" not in external:
        specs.append(_redis(layout, config))
    environment = site_environment(layout, config)
    return [*specs, *_stargate(layout, config, environment), *_django(layout, config, environment)]


def embedded_postgres(layout: Layout, config: SiteConfig) -> Postgres:
    return Postgres(data=layout.postgres, sockets=Path(config.socket_dir) / "pg")


def _postgres(layout: Layout, config: SiteConfig) -> ChildSpec:
    server = embedded_postgres(layout, config)
    return ChildSpec(
        name="postgres",
        stage=0,
        prepare=lambda: server.command(server.prepare()),
        ready=server.is_ready,
        environment=bare_environment(),
        stop_signal=signal.SIGINT,
        stop_seconds=30.0,
        start_seconds=300.0,  # crash recovery of a large database takes its time
        address=str(server.sockets),
    )


def _redis(layout: Layout, config: SiteConfig) -> ChildSpec:
    server = RedisServer(data=layout.redis, socket=Path(config.socket_dir) / "redis.sock")
    return ChildSpec(
        name="redis",
        stage=0,
        prepare=lambda: server.command(server.prepare()),
        ready=server.is_ready,
        environment=bare_environment(),
        address=str(server.socket),
    )


def _stargate(layout: Layout, config: SiteConfig, environment: dict[str, str]) -> list[ChildSpec]:
    """The engine: two processes that need none of the others."""

    def spec(role: str, socket_name: str, port: int, *options: str) -> ChildSpec:
        command = [sys.executable, "-m", "stargate", role, "--data", str(layout.data), "--listen", config.listen]
        command += options
        return ChildSpec(
            name=f"stargate-{role}",
            stage=0,
            prepare=lambda: _ours(command),
            ready=lambda: unix_answers(layout.run / socket_name),
            environment=environment,
            stop_seconds=30.0,
            start_seconds=300.0,  # reads the whole log after a crash
            address=f"{config.listen}:{port}",
        )

    peer, nbd = config.ports["peer"], config.ports["nbd"]
    return [
        spec("store", "store.sock", peer, "--peer-port", str(peer), "--site-id", config.uuid),
        spec("front", "stargate.sock", nbd, "--nbd-port", str(nbd)),
    ]


def _django(layout: Layout, config: SiteConfig, environment: dict[str, str]) -> list[ChildSpec]:
    manage = [sys.executable, str(ROOT / "manage.py")]
    ready_file = layout.run / WORKER_READY_FILE

    def prepare_worker() -> list[str]:
        ready_file.unlink(missing_ok=True)
        options = ["--concurrency", "2", "--queues", ",".join(QUEUES), "--loglevel", "INFO", "--without-gossip"]
        options += ["--without-mingle", "--hostname", f"worker@{config.name}"]
        return _ours([sys.executable, "-m", "celery", "-A", "prism.celery", "worker", *options])

    # The only worker of the site; what a dead one left was ended before. See `replication.cerebro.takeover`.
    only_worker = {**environment, "PRISM_ONLY_WORKER": "1"}
    web, control = config.ports["web"], config.ports["control"]
    return [
        ChildSpec("worker", 1, prepare_worker, ready_file.exists, only_worker, stop_seconds=30.0),
        ChildSpec(
            "cerebro",
            1,
            lambda: _ours([*manage, "cerebro"]),
            lambda: tcp_answers(config.listen, control),
            environment,
            address=f"{config.listen}:{control}",
        ),
        ChildSpec(
            "web",
            1,
            lambda: _ours([*manage, "web"]),
            lambda: web_answers(config.listen, web),
            environment,
            address=web_address(config),
        ),
    ]


def web_address(config: SiteConfig) -> str:
    """Address of the console."""
    return f"https://{_bracketed(reachable(config.listen))}:{config.ports['web']}/"


def reachable(listen: str) -> str:
    """An address of this machine that a process listening on `listen` answers at."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen, listen)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _ours(command: list[str]) -> list[str]:
    return [*privilege.ourselves().prefix(death_signal="TERM"), *command]


def unix_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_PROBE_TIMEOUT_SECONDS)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def tcp_answers(listen: str, port: int) -> bool:
    try:
        socket.create_connection((reachable(listen), port), timeout=_PROBE_TIMEOUT_SECONDS).close()
    except OSError:
        return False
    return True


def web_answers(listen: str, port: int, *, path: str = "healthz") -> bool:
    """Whether the web process answers `path` with 200. The certificate is our own and not checked here: loopback."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(
            f"https://{_bracketed(reachable(listen))}:{port}/{path}", timeout=_PROBE_TIMEOUT_SECONDS
        ) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
