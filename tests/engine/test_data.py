# SPDX-License-Identifier: Apache-2.0
"""Bytes written are the bytes read: fresh, drained, folded, after a restart, at any alignment."""

from __future__ import annotations

import random

import pytest

from stargate.errors import AlreadyExists, InvalidArgument, NotFound
from stargate.nbd.client import NbdClient
from stargate.units import KiB, MiB
from tests.support.engine_site import EngineSite, wait_for

SIZE = 8 * MiB + 5 * KiB + 123


def scribble(client: NbdClient, model: bytearray, rng: random.Random, count: int) -> None:
    """Random writes, trims and zeroes of any alignment, on the disk and on the model."""
    for _ in range(count):
        offset = rng.randrange(len(model))
        kind = rng.random()
        if kind < 0.15:
            length = min(rng.choice([1, 4096, 65536, 700_000]), len(model) - offset)
            client.trim(offset, length) if kind < 0.08 else client.write_zeroes(offset, length)
            model[offset : offset + length] = bytes(length)
            continue
        length = min(rng.choice([1, 511, 4096, 4097, 65536, 200_000]), len(model) - offset)
        if rng.random() < 0.5:
            offset -= offset % 4096
        data = rng.randbytes(length)
        client.write(offset, data, fua=rng.random() < 0.05)
        model[offset : offset + length] = data


def test_it_keeps_bytes_through_drain_fold_and_kill(site: EngineSite) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    vdisk = site.disk(SIZE)
    model = bytearray(SIZE)
    for round_number in range(4):
        with site.open(vdisk) as client:
            assert client.size_bytes == SIZE
            scribble(client, model, rng, 150)
            client.flush()
        assert site.content(vdisk) == model, "fresh"
        wait_for(site.drained, "the drain")
        assert site.content(vdisk) == model, "drained"
        snapshot = site.snapshot(vdisk)
        site.engine.wait_rooted(snapshot)
        assert site.content(vdisk) == model, "folded"
        with site.open_snapshot(snapshot, vdisk) as client:
            assert client.read_only
            assert client.read(0, SIZE) == model, "snapshot"
        if round_number % 2:
            site.restart()
            assert site.content(vdisk) == model, "after kill -9 of both processes"


def test_it_serves_a_restarted_front_from_an_undrained_log(site: EngineSite) -> None:
    vdisk = site.disk(SIZE)
    model = bytearray(SIZE)
    rng = random.Random(7)
    site.kill("store")
    with site.open(vdisk) as client:
        scribble(client, model, rng, 200)
        client.flush()
    site.kill("front")
    site.start_front()
    wait_for(site._is_ready, "the front without a store")
    assert site.content(vdisk) == model
    site.start_store()
    site.wait_ready()
    wait_for(site.drained, "the drain after the store came back")
    assert site.content(vdisk) == model


def test_it_maps_holes_exactly(site: EngineSite) -> None:
    vdisk = site.disk(1024 * MiB)
    with site.open(vdisk) as client:
        client.write(64 * MiB, b"x" * 8192)
        client.flush()
        wait_for(site.drained, "the drain")
        site.engine.wait_rooted(site.snapshot(vdisk))
        data = []
        at = 0
        while at < client.size_bytes:
            for length, flags in client.block_status(at, min(client.size_bytes - at, 256 * MiB)):
                if not flags & 2:
                    data.append((at, length))
                at += length
    assert data == [(64 * MiB, 64 * KiB)] or data == [(64 * MiB, 8192)]


def test_it_only_grows_disks(site: EngineSite) -> None:
    vdisk = site.disk(MiB)
    with site.open(vdisk) as client:
        client.write(0, b"a" * MiB)
    site.engine.vdisk_resize(vdisk, 3 * MiB)
    assert site.content(vdisk) == b"a" * MiB + bytes(2 * MiB)
    with pytest.raises(InvalidArgument):
        site.engine.vdisk_resize(vdisk, MiB)


def test_it_repeats_an_order_without_doing_it_twice(site: EngineSite) -> None:
    vdisk = site.disk(MiB, "one")
    site.engine.vdisk_create(vdisk, MiB, export_name="one")
    assert len(site.engine.vdisks()) == 1
    with pytest.raises(AlreadyExists):
        site.disk(MiB, "one")
    snapshot = site.snapshot(vdisk)
    first = site.engine.snapshot(snapshot)
    assert site.engine.snapshot_create(snapshot, [vdisk], manifest={})["position"] == first["position"]


def test_it_forgets_a_deleted_disk(site: EngineSite) -> None:
    vdisk = site.disk(MiB)
    client = site.open(vdisk)
    site.engine.vdisk_delete(vdisk)
    site.engine.vdisk_delete(vdisk)
    with pytest.raises(Exception):  # noqa: B017 - the connection is gone, one way or another
        client.read(0, 4096)
    with pytest.raises(NotFound):
        site.engine.vdisk(vdisk)
    assert site.restart().engine.vdisks() == []
