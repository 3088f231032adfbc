# SPDX-License-Identifier: Apache-2.0
"""Points in time under load: snapshots, fences, restores and clones against the oracle."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from stargate.errors import StaleTerm, WriterConnected
from stargate.nbd.client import NbdClient
from stargate.nbd.link import NbdDisconnected, NbdRefused, NbdRequestFailed
from stargate.units import MiB
from tests.support.engine_site import EngineSite, wait_for
from tests.support.oracle import BLOCK, StampedWriter, judge, wait_writes

BLOCKS = 256


@contextmanager
def writers_on(
    site: EngineSite, disks: list[str], count: int, *, flush_every: int = 0
) -> Iterator[list[StampedWriter]]:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    writers = [
        StampedWriter(n, count, lambda d: site.open(disks[d]), len(disks), BLOCKS, seed=seed, flush_every=flush_every)
        for n in range(count)
    ]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        for writer in writers:
            writer.stop()


def reader_of(open_disk: Callable[[int], NbdClient], disks: int) -> Callable[[int, int], bytes]:
    images = []
    for disk in range(disks):
        with open_disk(disk) as client:
            images.append(client.read(0, BLOCKS * BLOCK))
    return lambda disk, block: images[disk][block * BLOCK : (block + 1) * BLOCK]


@pytest.mark.parametrize(("disk_count", "writer_count"), [(3, 2), (32, 4)])
def test_a_group_snapshot_under_load_is_one_point_in_time(site: EngineSite, disk_count: int, writer_count: int) -> None:
    disks = [site.disk(BLOCKS * BLOCK) for _ in range(disk_count)]
    points = []
    with writers_on(site, disks, writer_count) as writers:
        for _ in range(4):
            wait_writes(writers, 60)
            ordered_at = time.monotonic()
            snapshot = site.snapshot(*disks)
            points.append((snapshot, ordered_at, time.monotonic()))
        wait_writes(writers, 60)
    journals = [w.journal for w in writers]

    def check() -> None:
        for snapshot, ordered_at, returned_at in points:
            read = reader_of(lambda d, s=snapshot: site.open_snapshot(s, disks[d]), disk_count)
            judge(read, journals, disk_count, BLOCKS, ordered_at=ordered_at, returned_at=returned_at)

    check()
    for snapshot, _, _ in points:
        site.engine.wait_rooted(snapshot)
    check()
    site.restart()
    check()


def test_a_fence_lets_no_later_write_through_and_loses_none_before(site: EngineSite) -> None:
    disks = [site.disk(BLOCKS * BLOCK) for _ in range(2)]
    snapshot = str(uuid.uuid4())
    with writers_on(site, disks, 3) as writers:
        wait_writes(writers, 80)
        ordered_at = time.monotonic()
        site.engine.fence(disks, reason="migrating", snapshot=snapshot)
        returned_at = time.monotonic()
        wait_for(lambda: all(not w.is_alive() for w in writers), "the writers to be disconnected")
    journals = [w.journal for w in writers]
    read = reader_of(lambda d: site.open_snapshot(snapshot, disks[d]), 2)
    last = judge(read, journals, 2, BLOCKS, ordered_at=ordered_at, returned_at=returned_at)
    acknowledged = {j.writer: max(w.number for w in j.writes if w.acknowledged is not None) for j in journals}
    assert all(last[n] >= acknowledged[n] for n in last), "a write was acknowledged after the fence's marker"
    with pytest.raises(NbdRefused, match="migrating"):
        site.open(disks[0])
    site.restart()
    assert site.engine.vdisk(disks[0])["role"] == "down"
    site.engine.set_role(disks, "active", reason="")
    site.open(disks[0]).close()


def test_a_restore_needs_the_writers_gone_and_brings_all_disks_back(site: EngineSite) -> None:
    disks = [site.disk(MiB) for _ in range(2)]
    for number, disk in enumerate(disks):
        with site.open(disk) as client:
            client.write(0, bytes([number + 1]) * MiB)
    before = [site.content(d) for d in disks]
    snapshot = site.snapshot(*disks)
    client = site.open(disks[0])
    client.write(4096, b"z" * 4096)
    with pytest.raises(WriterConnected):
        site.engine.restore(snapshot, {d: d for d in disks})
    assert site.content(disks[0]) != before[0]
    site.engine.restore(snapshot, {d: d for d in disks}, disconnect_writers=True)
    with pytest.raises((NbdRequestFailed, NbdDisconnected, OSError)):
        client.write(0, b"q" * 4096)
    assert [site.content(d) for d in disks] == before
    assert [site.content(d) for d in disks] == before
    site.restart()
    assert [site.content(d) for d in disks] == before


def test_a_clone_and_its_source_go_separate_ways(site: EngineSite) -> None:
    disk = site.disk(MiB)
    with site.open(disk) as client:
        client.write(0, b"s" * MiB)
    snapshot = site.snapshot(disk)
    clone = site.clone(snapshot, disk)
    with site.open(clone) as client:
        client.write(0, b"c" * 4096)
    with site.open(disk) as client:
        client.write(8192, b"d" * 4096)
    expected_clone = b"c" * 4096 + b"s" * (MiB - 4096)
    expected_disk = b"s" * 8192 + b"d" * 4096 + b"s" * (MiB - 12288)
    site.engine.snapshot_delete(snapshot)
    for _ in range(2):
        assert site.content(clone) == expected_clone
        assert site.content(disk) == expected_disk
        wait_for(site.drained, "the drain")
        site.engine.wait_rooted(site.snapshot(disk, clone))
        site.engine.sweep()
    site.restart()
    assert site.content(clone) == expected_clone
    assert site.content(disk) == expected_disk


def test_acknowledged_flushes_survive_kill_of_both_processes_under_load(site: EngineSite) -> None:
    disks = [site.disk(BLOCKS * BLOCK) for _ in range(3)]
    number = {0: 1, 1: 1}
    journals: dict[int, list[object]] = {0: [], 1: []}
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    for _ in range(3):
        writers = [
            StampedWriter(
                n, 2, lambda d: site.open(disks[d]), 3, BLOCKS, seed=seed, flush_every=7, start_number=number[n]
            )
            for n in range(2)
        ]
        for writer in writers:
            writer.start()
        wait_writes(writers, 150)
        site.kill()
        for writer in writers:
            writer.join(30)
            journals[writer.journal.writer] += writer.journal.writes
        site.start()
        read = reader_of(lambda d: site.open(disks[d]), 3)
        for writer in writers:
            writer.journal.writes = list(journals[writer.journal.writer])  # type: ignore[arg-type]
        # kill -9 keeps the page cache: everything acknowledged must be there, flushed or not
        now = time.monotonic()
        judge(read, [w.journal for w in writers], 3, BLOCKS, ordered_at=now, returned_at=now)
        for writer in writers:
            number[writer.journal.writer] = writer.journal.writes[-1].number + 1


def test_an_old_leader_is_refused(site: EngineSite) -> None:
    disk = site.disk(MiB)
    site.engine.claim_term(5)
    site.engine.snapshot_create(str(uuid.uuid4()), [disk], manifest={}, term=5)
    with pytest.raises(StaleTerm):
        site.engine.snapshot_create(str(uuid.uuid4()), [disk], manifest={}, term=4)
    with pytest.raises(StaleTerm):
        site.restart().engine.vdisk_delete(disk, term=4)


def test_a_gated_disk_starts_read_only_until_the_gate_opens(site: EngineSite) -> None:
    disk = site.disk(MiB)
    site.engine.set_gated([disk], True)
    with site.open(disk) as client:
        assert not client.read_only
    site.restart()
    early = site.open(disk)
    assert early.read_only
    site.engine.set_gate([disk], "open")
    with pytest.raises((NbdRequestFailed, NbdDisconnected, OSError)):
        early.read(0, 4096)  # has to come back to see that it may write now
    with site.open(disk) as client:
        assert not client.read_only


def test_deleting_a_snapshot_gives_its_space_back(site: EngineSite) -> None:
    disk = site.disk(8 * MiB)
    with site.open(disk) as client:
        client.write(0, random.Random(1).randbytes(8 * MiB))
    snapshot = site.snapshot(disk)
    site.engine.wait_rooted(snapshot)
    with site.open(disk) as client:
        client.write(0, random.Random(2).randbytes(8 * MiB))
    wait_for(site.drained, "the drain")
    second = site.snapshot(disk)
    site.engine.wait_rooted(second)
    exclusive = site.engine.scan()["exclusive"]
    assert exclusive[snapshot] >= 8 * MiB
    before = site.engine.usage()["stored_bytes"]
    site.engine.snapshot_delete(snapshot)
    wait_for(site.drained, "the drain of the deletion")
    wait_for(lambda: site.engine.sweep()["freed_bytes"] >= 8 * MiB, "the space")
    wait_for(lambda: site.engine.usage()["stored_bytes"] <= before - 8 * MiB, "the file system to have it back")
    assert site.content(disk) == random.Random(2).randbytes(8 * MiB)


def test_changed_ranges_cover_the_change_and_little_more(site: EngineSite) -> None:
    disk = site.disk(64 * MiB)
    with site.open(disk) as client:
        client.write(0, random.Random(3).randbytes(4 * MiB))
    first = site.snapshot(disk)
    with site.open(disk) as client:
        client.write(MiB + 17, b"x")
        client.write(40 * MiB, b"y" * 70_000)
    second = site.snapshot(disk)
    found = site.engine.changed_ranges(second, disk, since=first)
    assert found == {"ranges": [[MiB, 65536], [40 * MiB, 131072]], "next": None}
