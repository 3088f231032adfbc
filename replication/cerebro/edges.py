# SPDX-License-Identifier: Apache-2.0
"""The edge of a thread: a broken database or a bug in one duty is logged and does not end the process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import close_old_connections

log = logging.getLogger("replication.cerebro")


@contextmanager
def guarded(duty: str) -> Iterator[None]:
    """Run the body with a healthy database connection; log what it raises, by name of the `duty`."""
    close_old_connections()
    try:
        yield
    except Exception:
        log.exception("%s failed", duty)
    finally:
        close_old_connections()
