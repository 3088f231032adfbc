# SPDX-License-Identifier: Apache-2.0
"""Checks of the running parts: processes, database, Redis, engine, other sites and their clocks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
import redis
from django.apps import apps

from prism.runtime.children import children, site_environment
from prism.runtime.doctor import Check, Finding, Patient, error, fine, warning
from prism.runtime.supervisor import read_heartbeat, recorded_processes
from stargate.control.client import Engine
from stargate.errors import StargateError

_TIMEOUT_SECONDS = 5
_RESTARTS_MANY = 5
_CLOCKS_APART_SECONDS = 60.0
"""Schedules and expiry of two sites differ by as much; the last answer itself may be some seconds old."""
_MISTRUST_SECONDS = 5.0


def processes(patient: Patient) -> Iterator[Finding]:
    """Each is there, answers, and does not die again and again."""
    if not patient.running:
        yield warning("processes", "The site is not running; what needs it was not looked at.", "`make up` starts it.")
        return
    beat, alive = read_heartbeat(patient.layout), recorded_processes(patient.layout)
    for spec in children(patient.layout, patient.config):
        row = beat.get(spec.name, {})
        log = patient.layout.logs / f"{spec.name}.log"
        if spec.name not in alive:
            told = f" ({row['last_exit']})" if row.get("last_exit") else ""
            yield error("processes", f"{spec.name} is not running{told}.", f"It is started again by itself. See {log}.")
        elif not spec.ready():
            yield error("processes", f"{spec.name} runs but does not answer.", f"See {log}; `make down`, `make up`.")
        elif int(str(row.get("restarts", 0))) >= _RESTARTS_MANY:
            text = f"{spec.name} was started again {row['restarts']} times; last it {row.get('last_exit')}."
            yield warning("processes", text, f"See {log}.")
        else:
            yield fine("processes", f"{spec.name} answers")


def database(patient: Patient) -> Iterator[Finding]:
    """Reachable, migrated, and writable."""
    if not patient.running:
        return
    log = patient.layout.logs / "postgres.log"
    try:
        with _connected(patient) as connection:
            read_only = connection.execute("SHOW transaction_read_only").fetchone()
            rows = connection.execute("SELECT app, name FROM django_migrations").fetchall()
    except psycopg.Error as problem:
        yield error("database", f"unreachable: {_first_line(problem)}", f"See {log}, or the server of DATABASE_URL.")
        return
    missing = sorted(_migrations() - {(str(app), str(name)) for app, name in rows})
    if read_only and read_only[0] == "on":
        yield error("database", "It takes no writes.", "Is it a standby? DATABASE_URL must name the primary.")
    if missing:
        names = ", ".join(f"{app}.{name}" for app, name in missing[:5])
        yield error(
            "database", f"{len(missing)} migrations are missing: {names}.", "`make down`, `make up` applies them."
        )
    else:
        yield fine("database", "reachable and migrated")


def _connected(patient: Patient) -> psycopg.Connection[Any]:
    url = site_environment(patient.layout, patient.config)["DATABASE_URL"]
    return psycopg.connect(url, connect_timeout=_TIMEOUT_SECONDS, autocommit=True)


def _migrations() -> set[tuple[str, str]]:
    """What the code's migration folders hold, without asking a database."""
    from django.db.migrations.loader import MigrationLoader

    loader = MigrationLoader(None, ignore_no_migrations=True)
    labels = {app.label for app in apps.get_app_configs()}
    return {(app, name) for app, name in loader.graph.nodes if app in labels and not _replaced(loader, app, name)}


def _replaced(loader: Any, app: str, name: str) -> bool:
    return bool(loader.disk_migrations[app, name].replaces)


def messages(patient: Patient) -> Iterator[Finding]:
    """Redis answers and may write."""
    if not patient.running:
        return
    url = site_environment(patient.layout, patient.config)["REDIS_URL"]
    client = redis.Redis.from_url(url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS)
    log = patient.layout.logs / "redis.log"
    try:
        client.ping()
        told: Any = client.info("persistence")
    except redis.RedisError as problem:
        yield error("redis", f"unreachable: {type(problem).__name__}", f"See {log}, or the server of REDIS_URL.")
    else:
        if told.get("aof_last_write_status", "ok") != "ok":
            yield error("redis", "Its last write failed.", f"Is the disk full? See {log}.")
        else:
            yield fine("redis", "answers")
    finally:
        client.close()


def engine(patient: Patient) -> Iterator[Finding]:
    """Both halves talk to each other; the log is whole; the scrub found nothing."""
    if not patient.running:
        return
    asked = Engine(patient.layout.run, timeout_seconds=_TIMEOUT_SECONDS)
    try:
        status, health = asked.status(), asked.health()
    except (StargateError, OSError) as problem:
        mend = f"See {patient.layout.logs}/stargate-front.log and stargate-store.log."
        yield error("engine", f"does not answer: {problem}", mend)
        return
    if status["damaged"]:
        yield error("log", str(status["damaged"]["message"]), "docs/operations.md, When the log is damaged.")
    if not status["store_connected"]:
        yield error("engine", "The store does not follow the front.", "See stargate-store.log; it connects by itself.")
    if status["log_used_bytes"] > 0.95 * status["log_cap_bytes"]:
        yield warning("engine", "The log is nearly full; guests wait for the drain.", "Is the medium slow, or full?")
    if health["damaged"]:
        first = "; ".join(str(text)[:200] for text in health["findings"][:3])
        text = f"{health['damaged']} damaged parts that no site has whole: {first}"
        yield error("stored data", text, "docs/operations.md, When stored data is damaged.")
    if status["store_connected"] and not status["damaged"]:
        yield fine("engine", f"{status['vdisks']} disks, {status['snapshots']} snapshots")


def peers(patient: Patient) -> Iterator[Finding]:
    """Other sites answer, and their clocks agree with ours."""
    if not patient.running:
        return
    query = "SELECT name, status, last_seen_at, peer_info, now() FROM replication_remotesite ORDER BY name"
    try:
        with _connected(patient) as connection:
            rows = connection.execute(query).fetchall()
    except psycopg.Error:
        return  # `database` has said so
    for name, status, seen, info, now in rows:
        silent = (now - seen).total_seconds() if seen else None
        if silent is None or silent > _CLOCKS_APART_SECONDS:
            since = "never" if seen is None else f"not since {seen.isoformat(' ', 'seconds')}"
            mend = "Is it up? Ports 2009 and 2020 must be open between the sites; Remote Sites > Test."
            yield warning("remote site", f"{name} answered {since} (status {status}).", mend)
        apart = _clock_difference(info, seen)
        if apart is not None and abs(apart) > _MISTRUST_SECONDS:
            text = f"The clock of {name} is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} ours."
            mend = "Let NTP set both clocks (`timedatectl`)."
            yield (error if abs(apart) > _CLOCKS_APART_SECONDS else warning)("clock", text, mend)
        elif silent is not None and silent <= _CLOCKS_APART_SECONDS:
            yield fine("remote site", f"{name} answers")


def _clock_difference(info: Any, seen: datetime | None) -> float | None:
    """Seconds the other site was ahead when it last answered; None = not known."""
    try:
        told = datetime.fromisoformat(str(info["time"]))
        return (told - seen).total_seconds() if seen else None
    except (KeyError, TypeError, ValueError):
        return None


def _first_line(problem: Exception) -> str:
    return str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__


CHECKS: tuple[Check, ...] = (processes, database, messages, engine, peers)
