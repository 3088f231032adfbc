# SPDX-License-Identifier: Apache-2.0
"""What is read beside the loop is what the loop would read, or is left to it."""

from __future__ import annotations

import pytest

from stargate.errors import DamagedData
from stargate.extents.egroups import path_of
from stargate.units import BLOCK_BYTES, KiB
from tests.engine.harness import Site
from tests.engine.test_halves import drained, snapshot, started, write

CHUNK = 64 * KiB


def filled() -> tuple[Site, str]:
    """A disk of whole chunks in the extent store."""
    site, name = started()
    for at in range(4):
        write(site, name, at * CHUNK, bytes([65 + at]) * CHUNK)
    drained(site)
    return site, name


def test_it_gives_drained_data_and_nothing_else() -> None:
    site, name = filled()
    assert site.front is not None
    export = site.front.exports.lookup(name)
    job = export.read_later(0, 4 * CHUNK)
    assert job is not None
    assert b"".join(job()) == b"".join(export.read(0, 4 * CHUNK))
    write(site, name, 2 * CHUNK, b"new." * 1024)
    assert export.read_later(0, 4 * CHUNK) is None
    assert export.read_later(3 * CHUNK, CHUNK) is not None
    assert export.read_later(3 * CHUNK + 512, CHUNK - 512) is None


def test_it_gives_what_was_there_when_it_was_asked() -> None:
    """A write that is answered later than the read came may be in it or not; here it is not."""
    site, name = filled()
    assert site.front is not None
    export = site.front.exports.lookup(name)
    job = export.read_later(0, 4 * CHUNK)
    write(site, name, 0, b"z" * CHUNK)
    assert job is not None
    assert b"".join(job())[:CHUNK] == b"A" * CHUNK


@pytest.mark.parametrize("chunk", [0, 2, 3])
def test_it_fails_for_a_damaged_chunk_and_the_loop_says_which(chunk: int) -> None:
    site, name = filled()
    assert site.front is not None
    assert site.store is not None
    at = next(
        place
        for _, place in site.index.items()
        if site.store.extents.files.read(place.egroup, place.offset + 116, 1) == bytes([65 + chunk])
    )
    site.disk.flip(path_of(at.egroup), at.offset + 116 + 5 * BLOCK_BYTES)
    export = site.front.exports.lookup(name)
    job = export.read_later(0, 4 * CHUNK)
    assert job is not None
    with pytest.raises(DamagedData):
        job()
    for number in range(4):
        one = export.read_later(number * CHUNK, CHUNK)
        assert one is not None
        if number != chunk:
            assert b"".join(one()) == bytes([65 + number]) * CHUNK


def test_what_was_overwritten_and_swept_meanwhile_is_an_error_and_no_zeros() -> None:
    site, name = filled()
    assert site.front is not None
    assert site.store is not None
    export = site.front.exports.lookup(name)
    job = export.read_later(0, 4 * CHUNK)
    assert job is not None
    for at in range(4):
        write(site, name, at * CHUNK, bytes([97 + at]) * CHUNK)
    snapshot(site, name)
    site.sync()
    drained(site)
    while site.fold():
        site.settle()
    site.store.sweeper.sweep()
    site.settle()
    site.store.sweeper.give_back()
    with pytest.raises(DamagedData):
        job()
    assert b"".join(export.read(0, CHUNK)) == b"a" * CHUNK
