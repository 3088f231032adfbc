# SPDX-License-Identifier: Apache-2.0
"""The rows of replication: seconds from Take Snapshot until the target says verified, bytes on the wire, restore.

Each round takes all peers and both of our rows in turn, over fresh folders, and compares what was restored.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import zstandard
from blake3 import blake3

from bench import backup_tools, dataset
from bench.report import Sample
from bench.servers import BenchError
from bench.sites import Pair
from stargate.nbd.client import NbdClient
from stargate.units import CHUNK_BYTES, MiB

STEPS = ("full", "increment", "restore")
ROW = "replication, {step}"
DRAINED = "replication, {step}, from drained data"
WIRE = "replication, {step}: bytes on the wire"


class Replication:
    """`add` takes a sample as soon as there is one; `say` tells the operator."""

    def __init__(self, work: Path, add: Callable[[Sample], None], say: Callable[[str], None]) -> None:
        self._work = work
        self._add = add
        self._say = say
        say("building the data set (two images of 4 GiB)")
        self._first, self._second = dataset.build(work / "data")
        self._changes = backup_tools.changes(self._first, self._second)
        for step, ideal in zip(STEPS, ideal_bytes(self._first, self._second), strict=False):
            self._sample(WIRE.format(step=step), "ideal", ideal / MiB, "MiB")

    def _sample(self, row: str, server: str, value: float, unit: str = "s") -> None:
        self._add(Sample(row, server, value, unit, {"load": os.getloadavg()[0]}))
        self._say(f"{row:45} {server:10} {value:10.2f} {unit}")

    def round(self) -> None:
        for name in backup_tools.installed():
            self._peer(name)
        self._ours(drained=False)
        self._ours(drained=True)

    def _peer(self, name: str) -> None:
        folder = self._work / "peer"
        folder.mkdir()
        tool = backup_tools.TOOLS[name][1](folder, self._first, self._second)
        try:
            for step in STEPS:
                self._warm()
                seconds = float(getattr(tool, step)())
                self._sample(ROW.format(step=step), name, seconds)
                self._sample(DRAINED.format(step=step), name, seconds)
            self._compare(tool.restored)
        finally:
            tool.close()
            shutil.rmtree(folder)

    def _warm(self) -> None:
        """The source is in the page cache for everybody: it was just written."""
        for image in (self._first, self._second):
            with image.open("rb", buffering=0) as file:
                while file.read(4 * MiB):
                    pass

    def _compare(self, restored: Path) -> None:
        if not filecmp.cmp(restored, self._second, shallow=False):
            raise BenchError(f"{restored} does not equal what was backed up")

    def _ours(self, *, drained: bool) -> None:
        folder = self._work / "pair"
        row = DRAINED if drained else ROW
        pair = Pair(folder)
        try:
            disk = str(uuid.uuid4())
            pair.source.engine.vdisk_create(disk, dataset.SIZE_BYTES, export_name="bench")
            backup_tools.run(["nbdcopy", str(self._first), pair.source.uri])
            first = self._replicated(pair, disk, row, "full", None, drained)
            with NbdClient.unix(pair.source.engine.nbd_socket, "bench") as client:
                for offset, data in self._changes:
                    client.write(offset, data)
            second = self._replicated(pair, disk, row, "increment", first, drained)
            out = folder / "restored.raw"
            uri = pair.target.uri.removesuffix("bench") + f"snapshot:{second}:{disk}"
            backup_tools.run(["truncate", "-s", str(dataset.SIZE_BYTES), str(out)])
            self._sample(
                row.format(step="restore"),
                "stargate",
                backup_tools.timed(["nbdcopy", "--destination-is-zero", uri, str(out)], folder),
            )
            self._compare(out)
        finally:
            pair.stop()
            shutil.rmtree(folder)

    def _replicated(self, pair: Pair, disk: str, row: str, step: str, base: str | None, drained: bool) -> str:
        if drained:
            pair.source.settle()
        snapshot = str(uuid.uuid4())
        started = time.monotonic()
        pair.source.engine.snapshot_create(snapshot, [disk], manifest={})
        status = pair.replicate(snapshot, base, [disk])
        self._sample(row.format(step=step), "stargate", time.monotonic() - started)
        if not drained:
            self._sample(WIRE.format(step=step), "stargate", status["wire_bytes"] / MiB, "MiB")
        return snapshot


def ideal_bytes(first: Path, second: Path) -> list[float]:
    """What 64-KiB chunks need: each distinct one once, zeros free, zstd-1 where it helps; [full, increment]."""
    pack, seen = zstandard.ZstdCompressor(level=1), {blake3(bytes(CHUNK_BYTES)).digest()}
    found = []
    for image in (first, second):
        total = 0.0
        with image.open("rb", buffering=0) as file:
            while big := file.read(8 * MiB):
                view = memoryview(big)
                for at in range(0, len(big), CHUNK_BYTES):
                    digest = blake3(view[at : at + CHUNK_BYTES]).digest()
                    if digest not in seen:
                        seen.add(digest)
                        total += min(CHUNK_BYTES, len(pack.compress(view[at : at + CHUNK_BYTES])))
        found.append(total)
    return found
