# SPDX-License-Identifier: Apache-2.0
"""Rows of orders and of size: snapshot, clone, diff, what a guest notices of drain and replication, memory, bytes."""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from bench import jobs, report
from bench.report import Sample
from bench.servers import StargateServer
from bench.sites import Pair
from stargate.nbd.client import NbdClient
from stargate.units import CHUNK_BYTES, GiB, KiB, MiB, TiB

SNAPSHOT_DISKS = 32
REPEATS = 20
BASE_CHUNKS = 8000
CHANGED_CHUNKS = 1000
GUEST_RATE = 5000
GUEST_SECONDS = 5
AWAY_BYTES = 2 * GiB

Add = Callable[[Sample], None]


def _sample(add: Add, row: str, value: float, unit: str) -> None:
    add(Sample(row, "stargate", value, unit, {"load": os.getloadavg()[0]}))


def snapshots(server: StargateServer, add: Add) -> None:
    """Disks sparse but for a block each, written anew before each snapshot; then a clone of it."""
    engine = server.engine
    disks = [str(uuid.uuid4()) for _ in range(SNAPSHOT_DISKS)]
    for disk in disks:
        engine.vdisk_create(disk, TiB, export_name=f"wide-{disk}")
    for number in range(REPEATS):
        for disk in disks:
            with NbdClient.unix(engine.nbd_socket, f"wide-{disk}") as client:
                client.write(number * MiB, os.urandom(4096))
        point = str(uuid.uuid4())
        stored = folder_bytes(server.folder / "stargate" / "egroups")
        started = time.perf_counter()
        engine.snapshot_create(point, disks, manifest={})
        taken = time.perf_counter()
        copied = folder_bytes(server.folder / "stargate" / "egroups") - stored
        before_clone = time.perf_counter()
        engine.vdisk_create(
            str(uuid.uuid4()), TiB, export_name=f"clone-{point}", source={"snapshot": point, "disk": disks[0]}
        )
        cloned = time.perf_counter()
        _sample(add, report.SNAPSHOT_ROW, 1000 * (taken - started), "ms")
        _sample(add, report.SNAPSHOT_BYTES_ROW, copied, "bytes")
        _sample(add, report.CLONE_ROW, 1000 * (cloned - before_clone), "ms")


def differences(server: StargateServer, add: Add) -> None:
    """Order to answer, both versions in trees; the changes lie anywhere."""
    rng = random.Random(7)
    engine, disk = server.engine, str(uuid.uuid4())
    engine.vdisk_create(disk, TiB, export_name=f"scattered-{disk}")
    points = []
    for count in (BASE_CHUNKS, CHANGED_CHUNKS):
        with NbdClient.unix(engine.nbd_socket, f"scattered-{disk}") as client:
            for chunk in rng.sample(range(TiB // CHUNK_BYTES), count):
                client.write(chunk * CHUNK_BYTES, rng.randbytes(4 * KiB))
        points.append(str(uuid.uuid4()))
        engine.snapshot_create(points[-1], [disk], manifest={})
        engine.wait_rooted(points[-1], 600)
    for _ in range(REPEATS):
        started = time.perf_counter()
        found = engine.changed_ranges(points[1], disk, since=points[0])
        _sample(add, report.DIFF_ROW, 1000 * (time.perf_counter() - started), "ms")
        if sum(length for _, length in found["ranges"]) != CHANGED_CHUNKS * CHUNK_BYTES:
            raise AssertionError("the diff does not name the changed chunks")


def neighbour(folder: Path, add: Add, rounds: int) -> None:
    """A guest writes 4K at a fixed rate, alone, and while another disk's 2 GiB are drained, folded and sent."""
    pair = Pair(folder)
    try:
        for name, size in (("bench", GiB), ("away", 8 * GiB)):
            pair.source.engine.vdisk_create(str(uuid.uuid5(uuid.NAMESPACE_DNS, name)), size, export_name=name)
        guest = jobs.Job("guest", "randwrite", "4k", 4, GiB, GUEST_SECONDS, rate=GUEST_RATE)
        away = str(uuid.uuid5(uuid.NAMESPACE_DNS, "away"))
        for _ in range(rounds):
            pair.source.settle()
            quiet = jobs.run(pair.source, guest).p99_us
            _fill(pair.source, "away")
            point = str(uuid.uuid4())
            pair.source.engine.snapshot_create(point, [away], manifest={})
            sending = threading.Thread(target=pair.replicate, args=(point,))
            sending.start()
            busy = [jobs.run(pair.source, guest).p99_us]
            sending.join()
            _sample(add, "guest p99, quiet", quiet, "us")
            _sample(add, "guest p99, during drain and replication", statistics.median(busy), "us")
            _sample(add, report.NEIGHBOUR_ROW, statistics.median(busy) / quiet, "x")
    finally:
        pair.stop()


def _fill(server: StargateServer, name: str) -> None:
    with NbdClient.unix(server.engine.nbd_socket, name) as client:
        for at in range(0, AWAY_BYTES, MiB):
            client.write(at, os.urandom(MiB))


class Spent:
    """What a site wrote and keeps for what guests wrote, from here to `report`."""

    def __init__(self, server: StargateServer) -> None:
        self._server = server
        self._written = sum(written_bytes(pid) for pid in server.pids())
        self._stored = folder_bytes(server.folder / "stargate")
        self._memory = sum(anonymous_bytes(pid) for pid in server.pids())

    def report(self, add: Add, guest_bytes: int, kept_bytes: int, suffix: str) -> None:
        """`guest_bytes` were written to `kept_bytes` different places."""
        server = self._server
        written = sum(written_bytes(pid) for pid in server.pids()) - self._written
        _sample(add, f"bytes written per guest byte, {suffix}", written / guest_bytes, "x")
        stored = folder_bytes(server.folder / "stargate") - folder_bytes(server.folder / "stargate" / "oplog")
        _sample(add, f"bytes stored per guest byte kept, log apart, {suffix}", stored / kept_bytes, "x")
        memory = sum(anonymous_bytes(pid) for pid in server.pids())
        _sample(add, report.MEMORY_ROW, memory / MiB, "MiB")

    @staticmethod
    def index(server: StargateServer, add: Add) -> None:
        """Index bytes for a TiB of different chunks, from what the index holds now."""
        extents = server.engine.usage()["extents"]
        if extents:
            size = folder_bytes(server.folder / "stargate" / "index")
            _sample(add, "index file per TiB of unique data", size / extents * (TiB / CHUNK_BYTES) / GiB, "GiB")


def stall(server: StargateServer, add: Add) -> None:
    """Since the front started: all rows of this run."""
    turn = server.engine.status()["loop"]
    _sample(add, report.STALL_ROW, 1000 * turn["longest_seconds"], "ms")
    _sample(add, "turns of the front's loop over 2 ms", 1e6 * turn["long"] / max(1, turn["count"]), "per million")


def folder_bytes(folder: Path) -> int:
    """Allocated, without holes."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def written_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes")))


def anonymous_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))
