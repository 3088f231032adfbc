# SPDX-License-Identifier: Apache-2.0
"""What goes into the bundle for one site. Yields (name in the archive, text); nothing here is scrubbed yet."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from prism.layout import Layout, LayoutError, SiteConfig
from prism.runtime.children import site_environment
from prism.runtime.doctor import examine
from stargate.control.client import Engine
from stargate.errors import StargateError

Part = tuple[str, str]
LOG_BYTES_MAX = 4 * 1024 * 1024
"""Of each process's log, its newest part."""
FILES_MAX = 20_000
ROWS_MAX = 2000
_TIMEOUT_SECONDS = 10
_NEVER_LISTED = ("postgres",)
"""Thousands of files that say nothing. Of all others only name, size and mode are told."""

#: Table, what the newest are ordered by, its columns. A column that is not named here does not leave.
TABLES: dict[str, tuple[str, str]] = {
    "core_task": (
        "created_at",
        "uuid kind state phase done_bytes total_bytes samples moved_at waits_for message error actor object_type "
        "object_name object_id created_at started_at heartbeat_at finished_at attempts",
    ),
    "core_alert": (
        "raised_at",
        "kind severity title message cause object_type object_name object_id occurrences "
        "raised_at last_seen_at acknowledged_at resolved_at",
    ),
    "core_event": ("at", "at kind severity message object_type object_name object_id"),
    "core_auditrow": ("at", "at actor source verb object_type object_name outcome"),
    "replication_leaderstate": ("since", "term holder since heartbeat_at"),
    "replication_remotesite": (
        "created_at",
        "uuid name site_uuid capability addresses fingerprint status latency_seconds last_seen_at silent_since "
        "engine_knows peer_info created_at updated_at",
    ),
    "replication_replication": (
        "created_at",
        "uuid snapshot_uuid domain_uuid direction state phase done_bytes total_bytes wire_bytes chunks_total "
        "chunks_sent created_at started_at heartbeat_at finished_at attempts error",
    ),
    "replication_replicationtransition": ("at", "replication_id at event from_state to_state reason"),
    "dataprotection_protectiondomain": (
        "created_at",
        "uuid name mode phase mode_generation generation_seen stale_state peer_active_site schedules_suspended "
        "marked_for_removal created_at",
    ),
    "dataprotection_domaintransition": ("at", "domain_id at event from_phase to_phase reason"),
    "dataprotection_schedule": (
        "created_at",
        "uuid domain_id type every_nth start_at end_at timezone local_keep next_due_at last_fired_at suspended",
    ),
    "dataprotection_snapshot": (
        "created_at",
        "uuid domain_id display_id created_at expires_at state received kind size_bytes reclaimable_bytes",
    ),
}


def site_parts(layout: Layout, *, running: bool) -> Iterator[Part]:
    """Everything of one site; what cannot be had is told as such."""
    findings = examine(layout, running=running)
    yield "doctor.json", as_json([{**vars(one), "level": one.level.name} for one in findings])
    yield "files.txt", _listing(layout.data)
    try:
        config = layout.load()
    except LayoutError as problem:
        yield "site.txt", str(problem)
        config = None
    for name in ("site.json", "run/heartbeat.json"):
        if (layout.data / name).is_file():
            yield name, _tail(layout.data / name, LOG_BYTES_MAX)
    yield from _logs(layout.logs)
    if config and running:
        yield "engine.json", _engine(layout)
        yield from _rows(layout, config)


def _logs(folder: Path) -> Iterator[Part]:
    """The newest `LOG_BYTES_MAX` of each log, its older pieces before it as far as they fit."""
    for path in sorted(folder.glob("*.log")):
        text, older = _tail(path, LOG_BYTES_MAX), 1
        while len(text) < LOG_BYTES_MAX and (piece := path.with_name(f"{path.name}.{older}")).is_file():
            text = _tail(piece, LOG_BYTES_MAX - len(text)) + text
            older += 1
        yield f"logs/{path.name}", text


def _tail(path: Path, most: int) -> str:
    """The last `most` bytes, from the beginning of a line on. A link is not followed: it may lead anywhere."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            size = os.fstat(handle).st_size
            file.seek(max(0, size - most))
            content = file.read(most)
    except OSError as problem:
        return f"(cannot be read: {problem.strerror})\n"
    if size > most:
        content = content.partition(b"\n")[2]
    return content.decode("utf-8", errors="replace")


def _listing(data: Path) -> str:
    lines = []
    for folder, folders, names in os.walk(data):
        folders[:] = sorted(name for name in folders if name not in _NEVER_LISTED)
        for name in sorted(names):
            path = Path(folder, name)
            found = path.lstat()
            told = f"{stat.filemode(found.st_mode)} {found.st_uid:>6} {found.st_size:>14}"
            lines.append(f"{told} {path.relative_to(data)}")
            if len(lines) >= FILES_MAX:
                return "\n".join([*lines, "(and more)"])
    return "\n".join(lines)


def _engine(layout: Layout) -> str:
    asked = Engine(layout.run, timeout_seconds=_TIMEOUT_SECONDS)
    told: dict[str, Any] = {}
    for name in ("status", "health", "usage", "vdisks", "snapshots"):
        try:
            answer = getattr(asked, name)()
            told[name] = answer[:ROWS_MAX] if isinstance(answer, list) else answer
        except (StargateError, OSError) as problem:
            told[name] = f"not answered: {problem}"
    return as_json(told)


def _rows(layout: Layout, config: SiteConfig) -> Iterator[Part]:
    url = site_environment(layout, config)["DATABASE_URL"]
    try:
        with psycopg.connect(
            url, connect_timeout=_TIMEOUT_SECONDS, autocommit=True, row_factory=dict_row
        ) as connection:
            connection.execute(f"SET statement_timeout = {_TIMEOUT_SECONDS * 1000}")
            for table, (order, columns) in TABLES.items():
                names = sql.SQL(", ").join(map(sql.Identifier, columns.split()))
                query = sql.SQL("SELECT {} FROM {} ORDER BY {} DESC LIMIT {}").format(
                    names, sql.Identifier(table), sql.Identifier(order), sql.Literal(ROWS_MAX)
                )
                yield f"rows/{table}.json", as_json(connection.execute(query).fetchall())
    except psycopg.Error as problem:
        yield "rows/error.txt", f"The database did not answer: {type(problem).__name__}\n"


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1, default=str, ensure_ascii=False)
