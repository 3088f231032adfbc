# SPDX-License-Identifier: Apache-2.0
"""A guest that overwrites its disk for long is slowed down when space is scarce, and never refused: what it overwrote
comes back in time.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from stargate.units import KiB, MiB
from tests.support.engine_site import EngineSite, wait_for

Sites = Callable[..., EngineSite]
DISK = 96 * MiB
SEED = 2311


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_disk_is_overwritten_many_times_on_a_small_file_system(sites: Sites, kind: str) -> None:
    """Whole chunks: 16 times the disk, more than three times the file system, without a snapshot between."""
    site = started(sites(448 * MiB, kind, started=False))
    disk = site.disk(DISK)
    piece = random.Random(SEED).randbytes(MiB)
    with site.open(disk) as client:
        for turn in range(16):
            for at in range(0, DISK, MiB):
                client.write(at, stamped(piece, turn, at))
        client.flush()
        for at in range(0, DISK, MiB):
            assert client.read(at, MiB) == stamped(piece, 15, at), f"offset {at}"
    wait_for(site.drained, "the drain")


def test_blocks_here_and_there_are_overwritten_for_long_on_a_small_file_system(sites: Sites) -> None:
    """A fold makes sixteen times the bytes of them, for each lies in a chunk of its own."""
    site = started(sites(384 * MiB, started=False))
    disk = site.disk(DISK)
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    piece, taken = rng.randbytes(MiB), {}
    with site.open(disk) as client:
        for at in range(0, DISK, MiB):
            client.write(at, piece)
        for turn in range(30_000):
            at = rng.randrange(DISK // (4 * KiB)) * 4 * KiB
            taken[at] = turn
            client.write(at, stamped(piece[: 4 * KiB], turn, at))
        client.flush()
        for at, turn in taken.items():
            assert client.read(at, 4 * KiB) == stamped(piece[: 4 * KiB], turn, at), f"offset {at}"
    wait_for(site.drained, "the drain")


def started(site: EngineSite) -> EngineSite:
    """Its Curator has the pauses of every site: what comes sooner must come for want of space."""
    site._store_args += ["--curator-seconds", "30"]
    return site.start()


def stamped(piece: bytes, turn: int, at: int) -> bytes:
    """`piece`, unlike any other: each 64 KiB begin with turn and place."""
    mark = turn.to_bytes(8, "little") + at.to_bytes(8, "little")
    return b"".join(mark + piece[n + 16 : n + 64 * KiB] for n in range(0, len(piece), 64 * KiB))
