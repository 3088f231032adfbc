# SPDX-License-Identifier: Apache-2.0
"""The rows of docs/what-may-be-dead.md that no other test proves: who may be dead while guests read and write."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from prism.runtime.children import tcp_answers, unix_answers, web_answers
from prism.runtime.procinfo import ProcessId, wait_gone
from prism.runtime.supervisor import recorded_processes
from stargate.errors import Unavailable
from stargate.nbd.client import NbdClient
from stargate.peer.identity import create_identity
from stargate.units import MiB
from tests.support.engine_site import EngineSite, wait_for
from tests.support.loopback import loopback
from tests.support.oracle import BLOCK, StampedWriter, judge, wait_writes
from tests.support.sites import Site

pytestmark = [pytest.mark.workflow]

BLOCKS = 512
WRITERS = 2
PROCESSES = 7
FILL_BYTES, FILL_BLOCKS = 256 * 1024, 384  # 96 MiB, more than the log of that test holds
ADDRESS = loopback(33)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, for unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="dead-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def start_writers(names: list[str], connect: Callable[[str], NbdClient]) -> list[StampedWriter]:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    writers = [
        StampedWriter(n, WRITERS, lambda d: connect(names[d]), len(names), BLOCKS, seed=seed, flush_every=20)
        for n in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    return writers


def judge_point(
    clients: Sequence[NbdClient], writers: Sequence[StampedWriter], ordered: float, returned: float
) -> None:
    """Read a snapshot's disks and hold them against what the writers journaled."""
    judge(
        lambda disk, block: clients[disk].read(block * BLOCK, BLOCK),
        [writer.journal for writer in writers],
        len(clients),
        BLOCKS,
        ordered_at=ordered,
        returned_at=returned,
    )
    for client in clients:
        client.abandon()


def test_guests_and_snapshots_do_without_the_store(folder: Path) -> None:
    site = EngineSite(folder)
    try:
        site.start()
        disks = [site.disk(BLOCKS * BLOCK) for _ in range(3)]
        writers = start_writers(disks, site.open)
        wait_writes(writers, 30)
        site.kill("store")
        wait_for(lambda: not site.engine.status()["store_connected"], "the front to miss the store")

        wait_writes(writers, 60)  # acknowledged, each twentieth also flushed
        ordered = time.monotonic()
        snapshot = site.snapshot(*disks)
        returned = time.monotonic()
        wait_writes(writers, 30)
        for writer in writers:
            writer.stop()
        assert [writer.error for writer in writers] == [None] * WRITERS
        judge_point([site.open_snapshot(snapshot, disk) for disk in disks], writers, ordered, returned)
        with pytest.raises(Unavailable):
            site.engine.changed_ranges(snapshot, disks[0])

        site.start_store()
        wait_for(site.drained, "the log to drain")
        site.engine.wait_rooted(snapshot, 60)
        judge_point([site.open_snapshot(snapshot, disk) for disk in disks], writers, ordered, returned)
    finally:
        site.stop()


def test_a_full_log_holds_writers_but_neither_reads_nor_snapshots_until_the_store_is_back(folder: Path) -> None:
    site = EngineSite(folder, log_cap_mib=64)
    try:
        site.start()
        disk = site.disk(FILL_BLOCKS * FILL_BYTES)
        site.kill("store")
        written: list[int] = []
        writer = threading.Thread(target=_fill, args=(site, disk, written), daemon=True)
        writer.start()
        wait_for(lambda: _log_fill(site) > 0.94, "the log to fill up", 60)

        with site.open(disk) as client:
            assert client.read(0, FILL_BYTES) == _pattern(0)
        snapshot = site.snapshot(disk)
        assert writer.is_alive()
        assert len(written) * FILL_BYTES < 64 * MiB

        site.start_store()
        writer.join(60)
        assert written == list(range(FILL_BLOCKS))
        with site.open(disk) as client:
            assert all(client.read(n * FILL_BYTES, FILL_BYTES) == _pattern(n) for n in range(FILL_BLOCKS))
        with site.open_snapshot(snapshot, disk) as client:
            assert client.read(0, FILL_BYTES) == _pattern(0)
    finally:
        site.stop()


def _fill(site: EngineSite, disk: str, written: list[int]) -> None:
    with site.open(disk) as client:
        for number in range(FILL_BLOCKS):
            client.write(number * FILL_BYTES, _pattern(number))
            written.append(number)


def _log_fill(site: EngineSite) -> float:
    status = site.engine.status()
    return float(status["log_used_bytes"] / status["log_cap_bytes"])


def _pattern(number: int) -> bytes:
    return bytes([number % 255 + 1]) * FILL_BYTES


def test_the_store_receives_a_snapshot_without_its_front(folder: Path) -> None:
    source = EngineSite(folder / "a", peer=True)
    target = EngineSite(folder / "b", address=loopback(2), peer=True)
    pems = [create_identity(site.folder / "identity", "site").certificate_pem for site in (source, target)]
    try:
        source.start()
        target.start()
        source.engine.peer_set(target.site_id, "b", pems[1])
        target.engine.peer_set(source.site_id, "a", pems[0])
        disk = source.disk(8 * MiB)
        with source.open(disk) as client:
            client.write(MiB, b"\x07" * MiB)
            client.flush()
        snapshot, session = source.snapshot(disk), str(uuid.uuid4())

        target.kill("front")
        target.engine.grant(session, source.site_id, snapshot, 1 << 30, 600)
        source.engine.sync_start(
            session,
            snapshot,
            address=target.address,
            port=target.peer_port,
            site_id=target.site_id,
            session=session,
        )
        wait_for(lambda: source.engine.sync_status(session)["state"] != "running", "the replication", 60)
        assert source.engine.sync_status(session)["state"] == "done"

        target.start_front()
        target.wait_ready()
        with target.open_snapshot(snapshot, disk) as client:
            assert client.read(MiB, MiB) == b"\x07" * MiB
            assert client.read(0, BLOCK) == bytes(BLOCK)
    finally:
        source.stop()
        target.stop()


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_with_everything_but_the_front_dead_disks_serve_and_the_rest_catches_up(folder: Path) -> None:
    site = Site(folder / "s", "dead", ADDRESS)
    try:
        site.up()
        site.api.post("containers/", {"name": "default"}, expect=201)
        disks = _protect(site, "gold")
        writers = start_writers([disk["export_name"] for disk in disks], site.open)
        wait_writes(writers, 20)
        with Held(site) as held:
            held.kill("worker")
            order = site.api.ordered(site.path("gold", "take-snapshot"), {})
            assert site.api.task(order)["state"] == "queued"
            held.kill("web", "cerebro", "redis", "postgres", "stargate-store")
            assert not web_answers(ADDRESS, 9440)
            assert not tcp_answers(ADDRESS, 2020)
            assert not unix_answers(site.layout.run / "store.sock")
            wait_for(lambda: not site.engine.status()["store_connected"], "the front to miss the store")

            wait_writes(writers, 60)
            vdisks, snapshot = [str(disk["uuid"]) for disk in disks], str(uuid.uuid4())
            ordered = time.monotonic()
            site.engine.snapshot_create(snapshot, vdisks, manifest={"ordered": "with nothing else alive"})
            returned = time.monotonic()
            wait_writes(writers, 30)
        site.wait_up()

        site.api.done(order)
        assert len(site.snapshots("gold")) == 1
        site.take_snapshot("gold")
        assert len(site.snapshots("gold")) == 2
        for writer in writers:
            writer.stop()
        assert [writer.error for writer in writers] == [None] * WRITERS
        status = site.engine.status()
        wait_for(lambda: site.engine.status()["covered"] >= status["durable"], "the log to drain", 60)
        opened = [site.open(f"snapshot:{snapshot}:{vdisk}") for vdisk in vdisks]
        judge_point(opened, writers, ordered, returned)
    finally:
        site.stop()


def _protect(site: Site, name: str) -> list[dict[str, object]]:
    """A VM with two disks in a new domain; its disks."""
    size = {"size_bytes": BLOCKS * BLOCK}
    vm = site.api.post("vms/", {"name": "vm1", "container": "default", "disks": [size, size]}, expect=201)
    site.api.post("protection-domains/", {"name": name}, expect=201)
    site.api.post(site.path(name, "protect"), {"entities": [vm["uuid"]]})
    found: list[dict[str, object]] = vm["disks"]
    return found


class Held:
    """The supervisor of a site stands still, so that what dies stays dead; on leaving it goes on and restarts them."""

    def __init__(self, site: Site) -> None:
        self._layout = site.layout
        wait_for(lambda: len(recorded_processes(site.layout)) == PROCESSES, "the heartbeat to name all processes", 60)
        self._children: dict[str, ProcessId] = recorded_processes(site.layout)
        self._supervisor = next(_parent(child.pid) for child in self._children.values())

    def __enter__(self) -> Held:
        os.kill(self._supervisor, signal.SIGSTOP)
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._supervisor, signal.SIGCONT)

    def kill(self, *names: str) -> None:
        victims = [self._children[name] for name in names]
        for victim in victims:
            victim.send(signal.SIGKILL, group=True)
        assert not wait_gone(victims, timeout_seconds=10)


def _parent(pid: int) -> int:
    """The parent's pid, as the kernel says."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
