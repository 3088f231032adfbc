# SPDX-License-Identifier: Apache-2.0
"""The hot tier: what was appended and catalogued is read back verified, whatever happened in between."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from crc32c import crc32c

from stargate.catalog.state import BatchRef
from stargate.errors import DamagedData, InvalidArgument, NoSpace, OperatorError, StargateError, Unavailable
from stargate.fs.disk import Disk, OsDisk
from stargate.fs.memdisk import MemDisk
from stargate.hot.format import BATCH, BLOCK_ENTRY, REGION, REGION_BYTES, Block
from stargate.hot.regions import HotReader, HotWriter, read_batch_table
from stargate.hot.tables import restore_head
from stargate.units import BLOCK_BYTES

EPOCH = str(UUID(int=5))
SMALL_REGION = 128 * 1024


def _block(number: int, rng: Random) -> Block:
    data = rng.randbytes(BLOCK_BYTES)
    return number, 1000 + number, crc32c(data), data


def _blocks(rng: Random, count: int) -> list[Block]:
    return [_block(number, rng) for number in rng.sample(range(10_000), count)]


def _writer(disk: Disk, live: list[BatchRef] | None = None) -> HotWriter:
    return HotWriter.open(disk, "hot", live=live or [], region_bytes=SMALL_REGION)


def _append(writer: HotWriter, blocks: list[Block]) -> list[BatchRef]:
    """A window of one batch or several, durable."""
    writer.begin()
    refs = writer.append(EPOCH, 10, 20, [], [], blocks)
    writer.sync()
    return refs


def _read_all(disk: Disk, refs: list[BatchRef]) -> list[Block]:
    """Every block of the batches, read back by position and verified."""
    reader = HotReader(disk, "hot")
    found: list[Block] = []
    for ref in refs:
        table = read_batch_table(disk, "hot", ref)
        columns = (table.blocks.tolist(), table.sources.tolist(), table.crcs.tolist(), table.positions.tolist())
        for block, source, crc, position in zip(*columns, strict=True):
            found.append((block, source, crc, reader.read(position, BLOCK_BYTES, (crc,))))
    reader.close()
    return found


def test_it_gives_back_a_window_that_spans_regions(tmp_path: Path) -> None:
    rng = Random(1)
    disk = OsDisk(tmp_path)
    writer = _writer(disk)
    blocks = _blocks(rng, 100)
    zeros = [(n * 10, 5) for n in range(4000)]
    chunks = [(n, rng.randbytes(32)) for n in range(2000)]
    refs = writer.append(EPOCH, 10, 20, zeros, chunks, blocks)
    writer.sync()
    tables = [read_batch_table(disk, "hot", ref) for ref in refs]
    assert len({ref.region for ref in refs}) > 3
    assert all(table[:3] == (EPOCH, 10, 20) for table in tables)
    assert [entry for table in tables for entry in table.zeros] == zeros
    assert [entry for table in tables for entry in table.chunks] == chunks
    assert _read_all(disk, refs) == sorted(blocks)
    writer.close()


def test_it_fills_a_region_with_many_small_windows_before_the_next() -> None:
    disk = MemDisk()
    writer = _writer(disk)
    refs = [_append(writer, _blocks(Random(n), 1))[0] for n in range(8)]
    assert {ref.region for ref in refs} == {1}
    assert len({ref.offset for ref in refs}) == 8


def test_it_keeps_everything_at_page_boundaries() -> None:
    disk = MemDisk()
    refs = _append(_writer(disk), _blocks(Random(1), 50))
    for ref in refs:
        table = read_batch_table(disk, "hot", ref)
        assert ref.offset % BLOCK_BYTES == ref.length % BLOCK_BYTES == 0
        assert not any(table.positions % BLOCK_BYTES)
        assert table.positions.tolist()[0] // REGION_BYTES == ref.region


def test_it_reads_adjacent_blocks_at_once() -> None:
    disk = MemDisk()
    blocks = sorted(_blocks(Random(2), 6))
    table = read_batch_table(disk, "hot", _append(_writer(disk), blocks)[0])
    first = int(table.positions[0])
    data = HotReader(disk, "hot").read(first, 6 * BLOCK_BYTES, tuple(table.crcs.tolist()))
    assert data == b"".join(bytes(block[3]) for block in blocks)


def test_it_writes_nothing_for_an_empty_window() -> None:
    assert _writer(MemDisk()).append(EPOCH, 1, 2, [], [], []) == []


def test_it_appends_behind_the_live_batches_after_a_restart() -> None:
    rng = Random(3)
    disk = MemDisk()
    writer = _writer(disk)
    blocks = _blocks(rng, 5)
    live = _append(writer, blocks)
    lost = _append(writer, _blocks(rng, 5))
    writer.close()
    again = _writer(disk, live)
    more = _blocks(rng, 5)
    refs = _append(again, more)
    assert refs[0][:2] == lost[0][:2]
    assert _read_all(disk, live + refs) == sorted(blocks) + sorted(more)


def test_it_writes_over_nothing_that_a_reader_may_still_know_after_a_restart() -> None:
    rng = Random(3)
    disk = MemDisk()
    writer = _writer(disk)
    live = _append(writer, _blocks(rng, 5))
    blocks = _blocks(rng, 5)
    dead = _append(writer, blocks)
    writer.close()
    again = HotWriter.open(disk, "hot", live=live, region_bytes=SMALL_REGION, readers=True)
    refs = _append(again, _blocks(rng, 5))
    assert refs[0].region == dead[0].region
    assert refs[0].offset >= dead[0].offset + dead[0].length
    assert _read_all(disk, dead) == sorted(blocks)


def test_it_uses_freed_regions_again_under_a_new_incarnation() -> None:
    rng = Random(4)
    disk = MemDisk()
    writer = _writer(disk)
    old = _append(writer, _blocks(rng, 100))
    _append(writer, _blocks(rng, 1))
    free = writer.regions()
    assert all(writer.free(region) for region in free)
    files = disk.list("hot")
    blocks = _blocks(rng, 60)
    refs = _append(writer, blocks)
    assert {ref.region for ref in refs} <= free | {old[-1].region}
    assert disk.list("hot") == files
    assert _read_all(disk, refs) == sorted(blocks)
    with pytest.raises(DamagedData):
        read_batch_table(disk, "hot", next(ref for ref in old if ref.region == refs[1].region)._replace(length=12288))


def test_it_does_not_free_what_the_present_window_wrote() -> None:
    rng = Random(5)
    writer = _writer(MemDisk())
    refs = writer.append(EPOCH, 1, 2, [], [], _blocks(rng, 100))
    written = {ref.region for ref in refs}
    assert not writer.regions() & written
    assert not any(writer.free(region) for region in written)
    writer.sync()
    assert not any(writer.free(region) for region in written), "the catalog may be about to name it"
    _append(writer, _blocks(rng, 1))
    assert writer.regions() == written - {refs[-1].region}


def test_it_finds_every_flipped_bit_of_a_block() -> None:
    disk = MemDisk()
    blocks = _blocks(Random(6), 2)
    ref = _append(_writer(disk), blocks)[0]
    for at in range(BLOCK_BYTES, 3 * BLOCK_BYTES, 501):
        disk.flip("hot/r-00000001", ref.offset + at)
        with pytest.raises(DamagedData):
            _read_all(disk, [ref])
        disk.flip("hot/r-00000001", ref.offset + at)
    assert _read_all(disk, [ref]) == sorted(blocks)


@pytest.mark.parametrize("count", [2, 220])
def test_it_reads_the_second_copy_of_a_damaged_table_and_restores_the_first(count: int) -> None:
    disk = MemDisk()
    blocks = _blocks(Random(6), count)
    ref = _append(HotWriter.open(disk, "hot", live=[], region_bytes=REGION_BYTES), blocks)[0]
    before = disk.snapshot()
    used = BATCH.size + count * BLOCK_ENTRY.size
    head = (ref.length - count * BLOCK_BYTES) // 2
    for at in range(0, used, 3 + count):
        for damaged in ([at], [ref.length - head + at]):
            for place in damaged:
                disk.flip("hot/r-00000001", ref.offset + place)
            assert _read_all(disk, [ref]) == sorted(blocks)
            assert restore_head(disk, "hot", ref)
            assert not restore_head(disk, "hot", ref)
            assert disk.snapshot() == before
        for place in (at, ref.length - head + at):
            disk.flip("hot/r-00000001", ref.offset + place)
        with pytest.raises(DamagedData):
            read_batch_table(disk, "hot", ref)
        assert not restore_head(disk, "hot", ref)
        for place in (at, ref.length - head + at):
            disk.flip("hot/r-00000001", ref.offset + place)


def test_it_reads_a_region_that_lost_its_header() -> None:
    disk = MemDisk()
    blocks = _blocks(Random(6), 2)
    ref = _append(_writer(disk), blocks)[0]
    disk.flip("hot/r-00000001", 30)
    assert _read_all(disk, [ref]) == sorted(blocks)
    more = _blocks(Random(7), 3)
    again = _append(_writer(disk, [ref]), more)
    assert again[0].region != ref.region
    assert _read_all(disk, [ref]) == sorted(blocks)
    assert _read_all(disk, again) == sorted(more)


def test_batches_that_changed_places_are_damaged() -> None:
    disk = MemDisk()
    writer = _writer(disk)
    first, second = (_append(writer, _blocks(Random(n), 2))[0] for n in (1, 2))
    assert first.length == second.length
    file = disk.open("hot/r-00000001")
    ours, theirs = (file.pread(ref.length, ref.offset) for ref in (first, second))
    file.pwritev([theirs], first.offset)
    file.pwritev([ours], second.offset)
    for ref in (first, second):
        with pytest.raises(DamagedData):
            read_batch_table(disk, "hot", ref)


@pytest.mark.parametrize(
    "change", [{"offset": 0}, {"offset": 8192}, {"length": 4096}, {"region": 9}, {"length": 1 << 60}]
)
def test_it_refuses_references_that_match_no_batch(change: dict[str, int]) -> None:
    disk = MemDisk()
    ref = _append(_writer(disk), _blocks(Random(7), 2))[0]
    with pytest.raises(DamagedData):
        read_batch_table(disk, "hot", ref._replace(**change))


def test_it_leaves_a_live_region_that_is_missing_alone() -> None:
    disk = MemDisk()
    gone = BatchRef(1, 4096, 8192)
    refs = _append(_writer(disk, [gone]), _blocks(Random(1), 1))
    assert refs[0].region == 2
    with pytest.raises(DamagedData):
        read_batch_table(disk, "hot", gone)


def test_it_refuses_blocks_of_another_size() -> None:
    with pytest.raises(InvalidArgument):
        _writer(MemDisk()).append(EPOCH, 1, 2, [], [], [(1, 1, 0, b"short")])


def test_it_refuses_a_newer_format() -> None:
    disk = MemDisk()
    ref = _append(_writer(disk), _blocks(Random(8), 1))[0]
    file = disk.open("hot/r-00000001")
    raw = bytearray(file.pread(REGION.size, 0))
    raw[8] = 2
    raw[-4:] = crc32c(bytes(raw[:-4])).to_bytes(4, "little")
    file.pwritev([raw], 0)
    with pytest.raises(OperatorError, match="format 2"):
        read_batch_table(disk, "hot", ref)


def test_it_is_poisoned_by_a_failed_fdatasync() -> None:
    disk = MemDisk()
    writer = _writer(disk)
    _append(writer, _blocks(Random(1), 1))
    writer.append(EPOCH, 1, 2, [], [], _blocks(Random(9), 1))
    disk.fail_fsync = errno.EIO
    with pytest.raises(Unavailable):
        writer.sync()
    disk.fail_fsync = 0
    with pytest.raises(Unavailable):
        writer.sync()


def test_it_goes_on_when_space_returns() -> None:
    disk = MemDisk(capacity_bytes=SMALL_REGION + 2048)
    writer = _writer(disk)
    first = _append(writer, _blocks(Random(1), 20))
    blocks = _blocks(Random(2), 40)
    for _ in range(3):
        with pytest.raises(NoSpace):
            writer.append(EPOCH, 1, 2, [], [], blocks)
    disk.capacity_bytes = None
    refs = _append(writer, blocks)
    assert _read_all(disk, first + refs) == sorted(_blocks(Random(1), 20)) + sorted(blocks)
    assert len([name for name in disk.list("hot") if name.startswith("r-")]) <= 3


def test_it_takes_nothing_of_an_earlier_window_back() -> None:
    """One that found no space before its first batch: what the catalog names already stays where it is."""
    rng = Random(5)
    disk = MemDisk()
    writer = _writer(disk)
    blocks = _blocks(rng, 5)
    live = _append(writer, blocks)
    writer.begin()
    writer.rollback()
    more = _blocks(rng, 5)
    refs = _append(writer, more)
    assert refs[0].offset == live[0].offset + live[0].length
    assert _read_all(disk, live + refs) == sorted(blocks) + sorted(more)


def test_it_goes_on_elsewhere_when_the_region_that_it_left_is_freed_and_the_window_taken_back() -> None:
    rng = Random(6)
    disk = MemDisk()
    writer = _writer(disk)
    blocks = _blocks(rng, SMALL_REGION // BLOCK_BYTES - 5)  # what is left is less than a new batch may be cut to
    left = _append(writer, blocks)[-1].region
    writer.begin()
    writer.append(EPOCH, 20, 30, [], [], _blocks(rng, 5))
    assert writer.free(left)
    writer.rollback()
    more = _blocks(rng, 20)
    assert _read_all(disk, _append(writer, more)) == sorted(more)


@pytest.mark.parametrize("seed", range(150))
def test_it_keeps_all_catalogued_batches_through_crashes_and_failing_calls(seed: int) -> None:
    """A model drain: append, sync, catalogue; now and then an epoch is dropped and its regions are freed."""
    rng = Random(seed)
    disk = MemDisk()
    live: list[tuple[list[BatchRef], list[Block]]] = []
    for _ in range(4):
        writer = _writer(disk, [ref for refs, _ in live for ref in refs])
        disk.fail_at = rng.randint(1, 80)
        try:
            for _ in range(rng.randint(1, 12)):
                blocks = _blocks(rng, rng.randint(1, 30))
                live.append((_append(writer, blocks), blocks))
                if rng.randrange(3) == 0:
                    del live[: rng.randint(0, len(live))]
                    used = {ref.region for refs, _ in live for ref in refs}
                    for region in writer.regions() - used:
                        writer.free(region)
        except (OSError, StargateError):
            pass
        disk.fail_at = 0
        disk = disk.crash(rng)
        for refs, blocks in live:
            assert _read_all(disk, refs) == sorted(blocks)
