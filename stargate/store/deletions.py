# SPDX-License-Identifier: Apache-2.0
"""Deletions that were ordered and are not drained yet: the catalog still shows what the front has given up.

A peer must not be told that a snapshot is here when its deletion is on the way: it would vanish after all was said to
be well. Orders go to the front alone, so the log itself is asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from stargate.fs.disk import Disk
from stargate.oplog.format import CONTROL, LogMark, first_mark
from stargate.oplog.reader import LogReader
from stargate.oplog.superblock import superblock_exists
from stargate.store.hub import CatalogHub


class PendingDeletions:
    """Looks into the undrained log. `drain_to` is asked not to leave a deletion that was found lying there."""

    def __init__(self, disk: Disk, hub: CatalogHub, drain_to: Callable[[int], None]) -> None:
        self._disk = disk
        self._hub = hub
        self._drain_to = drain_to

    def __call__(self, snapshot: str) -> bool:
        """Whether the log deletes this snapshot of the catalog, or may do so: when the log was drained meanwhile, what
        was looked for may have been in what is gone. An order is in the log before it is answered.
        """
        with self._hub.lock:
            covered = self._hub.state.covered
        found = superblock_exists(self._disk, "oplog") and self._in_log(snapshot, covered)
        with self._hub.lock:
            return found or snapshot not in self._hub.state.snapshots or self._hub.state.covered != covered

    def _in_log(self, snapshot: str, covered: LogMark) -> bool:
        reader = LogReader(self._disk, "oplog")
        try:
            start = covered if covered.position else first_mark(reader.info.log_id)
            for batch in reader.chain(start):
                for record in batch.records:
                    if record.type == CONTROL and _deletes(record.payload, snapshot):
                        self._drain_to(batch.end)
                        return True
        finally:
            reader.close()
        return False


def _deletes(payload: bytes | None, snapshot: str) -> bool:
    op = json.loads(payload or b"{}")
    return bool(op["op"] == "snapshot_delete" and op["snapshot"] == snapshot)
