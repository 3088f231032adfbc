# SPDX-License-Identifier: Apache-2.0
"""The end of a log segment, when the loop waits for no disk: what is staged stays, in order, as it was sent."""

from __future__ import annotations

import uuid
from random import Random

import pytest

from stargate.front.exports import FrontExports
from stargate.nbd.exports import CommitLater
from stargate.units import BLOCK_BYTES, KiB
from tests.engine.harness import Site, commit

SIZE = 512 * KiB


def put_off(site: Site, name: str, *, prepared: bool = True) -> tuple[FrontExports, bytes]:
    """Writes through one buffer until a commit is put off, then spoils the buffer; what the disk must hold after it.
    `prepared`: there is a slot for the next segment."""
    assert site.front is not None
    if prepared:
        site.front.engine.log.prepare()
    exports = FrontExports(site.front.engine, waits=False)
    export = exports.lookup(name)
    rng, expected = Random(3), bytearray(SIZE)
    buffer = bytearray(16 * KiB)
    while True:
        offset = rng.randrange((SIZE - len(buffer)) // BLOCK_BYTES) * BLOCK_BYTES
        buffer[:] = expected[offset : offset + len(buffer)] = rng.randbytes(len(buffer))
        export.write(offset, memoryview(buffer))
        try:
            commit(exports)
        except CommitLater:
            buffer[:] = bytes(len(buffer))
            return exports, bytes(expected)


@pytest.fixture
def site() -> Site:
    made = Site(Random(1))
    made.start()
    return made


@pytest.fixture
def name(site: Site) -> str:
    assert site.front is not None
    name = str(uuid.uuid4())
    site.front.orders.do_vdisk_create(name, SIZE, name, "active", None, None)
    return name


def test_it_keeps_what_was_staged_until_the_segment_is_sealed(site: Site, name: str) -> None:
    assert site.front is not None
    exports, expected = put_off(site, name)
    with pytest.raises(CommitLater):
        commit(exports)
    site.front.engine.log.seal()
    commit(exports)
    assert site.content(name) == expected


def test_a_snapshot_ordered_meanwhile_holds_what_was_staged_before(site: Site, name: str) -> None:
    assert site.front is not None
    exports, expected = put_off(site, name)
    point = str(uuid.uuid4())
    site.front.orders.do_snapshot_create(point, [name], {}, "", None)
    assert commit(exports) == site.front.engine.log.appended.position
    version = exports.lookup(f"snapshot:{point}:{name}")
    assert b"".join(map(bytes, version.read(0, SIZE))) == expected


def test_an_order_that_fails_in_between_fails_what_was_staged(site: Site, name: str) -> None:
    """Else the batch put off would be answered as written."""
    assert site.front is not None
    exports, _ = put_off(site, name)
    site.disk.fail_at = 1
    with pytest.raises(Exception, match="log"):
        site.front.orders.do_snapshot_create(str(uuid.uuid4()), [name], {}, "", None)
    site.disk.fail_at = 0
    with pytest.raises(Exception, match="log"):
        commit(exports)


def test_it_waits_for_a_slot_that_is_being_made_and_keeps_the_end_of_the_segment_for_orders(
    site: Site, name: str
) -> None:
    assert site.front is not None
    exports, expected = put_off(site, name, prepared=False)
    log = site.front.engine.log
    assert not log.sealing
    assert log.segment_left > BLOCK_BYTES
    log.prepare()
    commit(exports)
    assert site.content(name) == expected
