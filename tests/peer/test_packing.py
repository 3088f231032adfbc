# SPDX-License-Identifier: Apache-2.0
"""Packing ahead: the order of what was asked for, in as many threads as there are, and nothing lost on the way."""

from __future__ import annotations

import random
import threading

import pytest

from stargate.checksum import block_crcs
from stargate.errors import DamagedData
from stargate.extents.format import Codec, Kind, chunk_hash
from stargate.extents.index import MemoryIndex
from stargate.extents.store import ExtentStore
from stargate.fs.memdisk import MemDisk
from stargate.peer.codec import GROUP_BYTES, GROUPS_AHEAD, Packing
from stargate.peer.wire import Item
from stargate.units import CHUNK_BYTES


@pytest.fixture
def store() -> ExtentStore:
    return ExtentStore(MemDisk(), MemoryIndex(), writable=True)


def chunks(store: ExtentStore, rng: random.Random, count: int) -> list[bytes]:
    """Half of them pack well, and at different speed."""
    found = []
    for number in range(count):
        data = rng.randbytes(CHUNK_BYTES if number % 2 else 4096).ljust(CHUNK_BYTES, b"x")
        found.append(store.put_warm(data, block_crcs(data)))
    store.flush()
    return found


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_it_gives_items_in_the_order_asked_for(store: ExtentStore, rng: random.Random, threads: int) -> None:
    names = chunks(store, rng, 5 * GROUPS_AHEAD * GROUP_BYTES // CHUNK_BYTES // 2 + 1)
    taken: list[tuple[Item, int]] = []
    callers = set()

    def take(item: Item, guest_bytes: int) -> None:
        callers.add(threading.current_thread())
        taken.append((item, guest_bytes))

    with Packing(store, take, compress=True, threads=threads) as packing:
        for number, name in enumerate(names):
            packing.chunk(name, CHUNK_BYTES, number)
            if number % 7 == 0:
                packing.node(Kind.LEAF, name, b"n" * 4096)
        packing.flush()
    assert callers == {threading.current_thread()}
    assert [item.hash for item, _ in taken if item.kind == Kind.CHUNK] == names
    assert [guest for item, guest in taken if item.kind == Kind.CHUNK] == list(range(len(names)))
    at = [number for number, (item, _) in enumerate(taken) if item.kind == Kind.LEAF]
    assert all(taken[number - 1][0].hash == taken[number][0].hash for number in at)
    assert {item.codec for item, _ in taken} == {Codec.RAW, Codec.ZSTD}


@pytest.mark.parametrize("threads", [0, 2])
def test_it_tells_of_a_chunk_that_cannot_be_read(store: ExtentStore, rng: random.Random, threads: int) -> None:
    names = chunks(store, rng, 20)
    taken: list[bytes] = []

    def send_all() -> None:
        with Packing(store, lambda item, _: taken.append(item.hash), compress=True, threads=threads) as packing:
            for name in [*names[:10], chunk_hash(b"gone"), *names[10:]]:
                packing.chunk(name, CHUNK_BYTES, 0)
            packing.flush()

    with pytest.raises(DamagedData):
        send_all()
    assert taken == names[: len(taken)]
    assert len(taken) <= 10


def test_it_holds_a_bounded_number_of_groups(store: ExtentStore, rng: random.Random) -> None:
    """Whatever the threads do, what was asked for and not taken is bounded."""
    names = chunks(store, rng, 64)
    asked = taken = most = 0

    def take(item: Item, guest_bytes: int) -> None:
        nonlocal taken
        taken += 1

    with Packing(store, take, compress=True, threads=2) as packing:
        for name in names * 8:
            packing.chunk(name, CHUNK_BYTES, 0)
            asked += 1
            most = max(most, asked - taken)
        packing.flush()
    assert taken == asked
    assert most <= (GROUPS_AHEAD + 1) * GROUP_BYTES // CHUNK_BYTES
