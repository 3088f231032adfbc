# SPDX-License-Identifier: Apache-2.0
"""What seals open epochs and calls for a sweep before its time: the less is free, the sooner."""

from __future__ import annotations

import pytest

from stargate.catalog.state import BatchRef, Epoch
from stargate.clock import SystemClock
from stargate.fs.memdisk import MemDisk
from stargate.store.reclaim import Reclaim
from stargate.store.space import Space
from stargate.units import CHUNK_BYTES, GiB, MiB, TiB


class Roomy(Space):
    """So much is free on a file system of a TiB."""

    def __init__(self, free_bytes: int) -> None:
        super().__init__(MemDisk(), SystemClock(), 0)
        self.free = free_bytes

    def free_bytes(self) -> int:
        return self.free

    def total_bytes(self) -> int:
        return TiB


class Site:
    """`appended`: bytes in the extent groups."""

    def __init__(self, free_bytes: int) -> None:
        self.appended = 0
        self.space = Roomy(free_bytes)
        self.reclaim = Reclaim(lambda: self.appended)
        self.reclaim.space = self.space


def open_epoch(hot_bytes: int, size_bytes: int) -> Epoch:
    epoch = Epoch("e", None, size_bytes, CHUNK_BYTES)
    epoch.batches.append(BatchRef(1, 0, hot_bytes))
    return epoch


@pytest.mark.parametrize(
    ("free_gib", "hot_mib", "size_gib", "refs_gib", "due"),
    [
        (500, 6143, 1024, 0, False),  # a fold of up to 96 GiB
        (500, 6144, 1024, 0, True),
        (150, 6143, 1024, 0, True),  # which would take more than half of what is free
        (150, 6143, 16, 0, False),  # no more than the disk has
        (31, 4000, 16, 0, True),
        (500, 0, 16, 15, False),
        (500, 0, 16, 16, True),
        (20, 0, 16, 9, False),
        (20, 0, 16, 10, True),
        (0, 63, 1024, 0, False),  # not for crumbs
        (0, 64, 1024, 0, True),
    ],
)
def test_it_seals_by_size_and_by_what_the_fold_would_take_of_the_free_space(
    free_gib: int, hot_mib: int, size_gib: int, refs_gib: int, due: bool
) -> None:
    reclaim = Site(free_gib * GiB).reclaim
    assert reclaim.seal_due([open_epoch(hot_mib * MiB, size_gib * GiB)], refs_gib * GiB // CHUNK_BYTES) is due


@pytest.mark.parametrize(("free_gib", "step"), [(500, 8 * GiB), (16, 2 * GiB), (0, 64 * MiB)])
def test_it_sweeps_when_a_part_of_the_free_space_was_stored_and_a_version_went(free_gib: int, step: int) -> None:
    site = Site(free_gib * GiB)
    site.appended = step
    assert not site.reclaim.sweep_due(), "nothing that was stored can have become free"
    site.reclaim.version_went()
    assert site.reclaim.sweep_due()
    site.reclaim.sweep_begins()
    assert not site.reclaim.sweep_due()
    assert site.reclaim.is_at_work()
    site.reclaim.returned()
    assert not site.reclaim.is_at_work()
    site.appended += step - 1
    site.reclaim.version_went()
    assert not site.reclaim.sweep_due()
    site.appended += 1
    assert site.reclaim.sweep_due()


def test_it_is_tight_a_window_before_the_storage_is_nearly_full() -> None:
    assert not Site(20 * GiB + 128 * MiB).reclaim.is_tight()
    assert Site(20 * GiB + 128 * MiB - 1).reclaim.is_tight()
    assert not Reclaim(lambda: 0).is_tight(), "nobody looks at the file system"
