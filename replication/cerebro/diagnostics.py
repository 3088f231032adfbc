# SPDX-License-Identifier: Apache-2.0
"""The page at / of port 2020: what Cerebro is doing. No secrets: whoever is on this machine may read it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from celery import current_app
from django.template.loader import render_to_string
from django.utils import timezone
from kombu.exceptions import OperationalError

from replication import selectors
from replication.cerebro.edges import guarded
from replication.local import local_site
from replication.models import LeaderState, RemoteSite, Replication
from replication.rpc import registry

QUEUES = ("snapshot", "replicate", "expire", "default")
WORKER_ANSWER_SECONDS = 0.5


@dataclass(frozen=True)
class DiagnosticsPage:
    """Everything the template shows."""

    site_name: str
    now: datetime
    leader: LeaderState | None
    workers: list[str] | None  # None: the broker does not answer
    queues: list[tuple[str, int]] | None  # name and waiting messages; None as above
    running: list[Replication]
    backlog: int
    sites: list[RemoteSite]
    calls: list[str]


def render() -> str:
    """The page as HTML."""
    page = "<!doctype html><title>Cerebro</title><p>The database does not answer; see the log of cerebro.</p>"
    with guarded("the diagnostics page"):
        page = render_to_string("replication/cerebro.html", {"page": collect()})
    return page


def collect() -> DiagnosticsPage:
    """Ask the database, the broker and the workers."""
    return DiagnosticsPage(
        site_name=local_site().name,
        now=timezone.now(),
        leader=LeaderState.objects.filter(pk=1).first(),
        workers=_workers(),
        queues=_queues(),
        running=selectors.running(),
        backlog=selectors.backlog(),
        sites=list(RemoteSite.objects.all()),
        calls=registry.names(),
    )


def _workers() -> list[str] | None:
    try:
        answers = current_app.control.ping(timeout=WORKER_ANSWER_SECONDS)
    except (OperationalError, OSError):
        return None
    return sorted(name for answer in answers for name in answer)


def _queues() -> list[tuple[str, int]] | None:
    try:
        with current_app.connection_for_read() as connection:
            redis = connection.default_channel.client
            return [(name, int(redis.llen(name))) for name in QUEUES]
    except (OperationalError, OSError):
        return None
