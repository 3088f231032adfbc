# SPDX-License-Identifier: Apache-2.0
"""Numbers of the replication app that are not part of a format."""

from __future__ import annotations

from datetime import timedelta

TRANSFER_QUEUE = "replicate"
TRANSFER_TASK = "replication.replicate"
BACKOFF_FIRST = timedelta(seconds=5)
BACKOFF_MAX = timedelta(minutes=10)
REENQUEUE_AFTER = timedelta(seconds=60)
"""A queued replication whose message was sent this long ago is sent again: Redis may have lost it."""
PING_EVERY = timedelta(seconds=10)
UNHEALTHY_AFTER = timedelta(seconds=30)
EXPIRY_EVERY = timedelta(minutes=1)
SWEEP_EVERY = timedelta(seconds=10)
FORGET_EVERY = timedelta(hours=1)
PING_TIMEOUT_SECONDS = 3.0
OFFER_TIMEOUT_SECONDS = 60.0
PROGRESS_SECONDS = 0.5
WITHDRAWALS_MAX = 100
"""At once; the rest has its turn with the next."""
