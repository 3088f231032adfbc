# SPDX-License-Identifier: Apache-2.0
"""What the leader does on behalf of the upper app. Registered in `AppConfig.ready`; nothing here imports
upwards (LAW 1).

Every callback runs in the leader's thread with a database connection. An exception is logged and does not stop the
others.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from replication.models import RemoteSite

Due = Callable[[datetime], object]
Start = Callable[[], object]
SiteUse = Callable[[RemoteSite], list[str]]

due_providers: dict[str, Due] = {}
expiry_providers: dict[str, Due] = {}
task_senders: dict[str, Callable[[str], object]] = {}
start_callbacks: dict[str, Start] = {}
site_uses: dict[str, SiteUse] = {}


def register_due(name: str, provider: Due) -> None:
    """Called every second with the present time: find due work (`FOR UPDATE SKIP LOCKED`) and enqueue it."""
    due_providers[name] = provider


def register_expiry(name: str, provider: Due) -> None:
    """Called every minute with the present time: expire what is over."""
    expiry_providers[name] = provider


def register_start(name: str, callback: Start) -> None:
    """Called once by every Cerebro process that starts, before it runs for leader (the stale-site check).

    The callback must bound its own waiting.
    """
    start_callbacks[name] = callback


def register_task(kind: str, send: Callable[[str], object]) -> None:
    """How a `prism.core.Task` of `kind` reaches its queue: called with its uuid when the first message was lost or its
    worker fell silent. The task must be idempotent (`tasks.start` decides)."""
    task_senders[kind] = send


def register_site_use(name: str, check: SiteUse) -> None:
    """Asked before a remote site is removed: sentences that say what still needs it, empty when nothing does."""
    site_uses[name] = check
