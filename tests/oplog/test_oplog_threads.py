# SPDX-License-Identifier: Apache-2.0
"""The writer, the sync thread and a reader at once, on real files."""

from __future__ import annotations

import threading
from pathlib import Path
from random import Random

from stargate.errors import LogFull
from stargate.fs.disk import OsDisk
from stargate.oplog import WRITE, LogMark, LogReader, LogRecord, OpLog
from tests.oplog.oplog_kit import FIRST, SEGMENT_BYTES, Seen, as_seen, make_log, random_items

BATCHES = 600


class Drain:
    """Follows the log as the store does: reads what is durable, then lets the writer release it."""

    def __init__(self, disk: OsDisk, log: OpLog) -> None:
        self._log = log
        self._reader = LogReader(disk, "oplog")
        self.covered: LogMark = FIRST
        self.found: list[list[Seen]] = []
        self.turned = threading.Event()

    def turn(self) -> None:
        self._log.prepare()
        for batch in self._reader.batches(self.covered, self._log.sync()):
            self.found.append([Seen(r.type, r.handle, r.offset, r.length, self._bytes(r)) for r in batch.records])
            self.covered = batch.mark
        self.turned.set()

    def _bytes(self, record: LogRecord) -> bytes:
        kind, _, _, length, position, crcs, payload = record
        return self._reader.read(position, length, crcs) if kind == WRITE else payload or b""


def test_it_hands_every_batch_to_a_reader_while_slots_are_used_again(tmp_path: Path) -> None:
    rng = Random(21)
    disk = OsDisk(tmp_path)
    log = make_log(disk, cap_bytes=8 * SEGMENT_BYTES, segment_bytes=2 * SEGMENT_BYTES)
    drain = Drain(disk, log)
    stop = threading.Event()
    failures: list[BaseException] = []

    def follow() -> None:
        try:
            while not stop.is_set():
                drain.turn()
            drain.turn()
        except BaseException as exc:
            failures.append(exc)

    follower = threading.Thread(target=follow)
    follower.start()
    appended = []
    while len(appended) < BATCHES and not failures:
        items = random_items(rng)
        log.release(min(drain.covered.position, log.durable.position))
        try:
            log.append(items)
        except LogFull:
            drain.turned.clear()
            drain.turned.wait(10)
            continue
        appended.append(as_seen(items))
    stop.set()
    follower.join()
    assert not failures
    assert drain.found == appended
    assert log.appended.position // (2 * SEGMENT_BYTES) > 20
    assert len([name for name in disk.list("oplog") if name.startswith("slot-")]) <= 7
    log.close()
