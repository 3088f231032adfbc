# SPDX-License-Identifier: Apache-2.0
"""Chunks: what is stored, what is seen, what damage does."""

from __future__ import annotations

import struct
from pathlib import Path

import lz4.block
import pytest
import zstandard

from stargate.errors import DamagedData, InvalidArgument, NoSpace, PeerProtocol, ReadOnly, Unavailable
from stargate.extents.egroups import path_of
from stargate.extents.format import (
    CHUNK_BYTES_MAX,
    ZERO_HASH,
    Codec,
    DamagedExtent,
    Kind,
    MissingExtent,
    StoreFrozen,
    chunk_hash,
    extent_bytes,
    node_hash,
)
from stargate.extents.index import Change, LmdbIndex, MemoryIndex
from stargate.extents.nodes import pack_node
from stargate.extents.store import ExtentStore
from stargate.fs.disk import OsDisk
from stargate.units import MiB
from tests.extents.faulty import FaultyDisk
from tests.extents.helpers import CHUNK, memory_store, noise, texture


def test_it_reads_back_what_it_stored(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    data = [noise(1), texture(2), noise(3, 4096), texture(4, CHUNK_BYTES_MAX)]
    hashes = [store.put_chunk(chunk) for chunk in data]
    store.flush()
    assert hashes == [chunk_hash(d) for d in data]
    assert [store.read_chunk(h) for h in hashes] == data
    assert store.read_blocks(hashes[0], 3, 2) == data[0][3 * 4096 : 5 * 4096]
    assert store.read_blocks(hashes[1], 15, 1) == data[1][15 * 4096 :]
    for digest in hashes:
        store.verify(digest)


def test_it_stores_raw_unless_a_quarter_is_saved(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    noisy, even = (store.put_chunk(data) for data in (noise(1), texture(1)))
    mostly = store.put_chunk(noise(1, 56 * 1024) + bytes(8 * 1024))
    assert [store.raw(h)[0] for h in (noisy, even, mostly)] == [Codec.RAW, Codec.LZ4, Codec.RAW]


def test_it_never_stores_zeros(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    assert {store.put_chunk(data) for data in (bytes(65536), bytearray(4096), memoryview(bytes(65536)))} == {ZERO_HASH}
    store.flush()
    assert store.stats().extents == 0
    assert store.read_blocks(ZERO_HASH, 2, 3) == bytes(3 * 4096)
    assert store.has([ZERO_HASH]) == [True]


def test_it_stores_equal_chunks_once(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    assert len({store.put_chunk(noise(1)) for _ in range(5)}) == 1
    store.flush()
    before = store.stats().stored_bytes
    store.put_chunk(noise(1))
    store.flush()
    assert (store.stats().extents, store.stats().stored_bytes) == (1, before)


def test_it_keeps_a_private_copy_of_a_reused_buffer(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    buffer = bytearray(noise(1))
    digest = store.put_chunk(memoryview(buffer))
    buffer[:] = noise(2)
    store.flush()
    assert store.read_chunk(digest) == noise(1)


def test_it_shows_nothing_before_the_flush(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    reader = ExtentStore(OsDisk(tmp_path), index, writable=False)
    digest = store.put_chunk(noise(1))
    assert store.has([digest]) == [False]
    assert store.read_chunk(digest) == noise(1)
    with pytest.raises(MissingExtent):
        reader.read_chunk(digest)
    store.flush()
    assert store.has([digest]) == [True]
    assert reader.read_chunk(digest) == noise(1)
    with pytest.raises(ReadOnly):
        reader.put_chunk(noise(2))


def test_it_lets_one_process_write(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    with pytest.raises(Unavailable):
        memory_store(tmp_path)
    store.close()
    memory_store(tmp_path).close()


@pytest.mark.parametrize("length", [0, 100, 4097, CHUNK_BYTES_MAX + 4096])
def test_it_refuses_chunks_of_no_valid_size(tmp_path: Path, length: int) -> None:
    with pytest.raises(InvalidArgument):
        memory_store(tmp_path).put_chunk(noise(1, length))


def test_it_refuses_blocks_outside_of_the_chunk(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    digest = store.put_chunk(noise(1, 8192))
    for first, count in ((0, 3), (2, 1), (-1, 1), (0, 0), (1 << 40, 1)):
        with pytest.raises(InvalidArgument):
            store.read_blocks(digest, first, count)


def test_it_goes_on_in_new_egroups_and_after_a_restart(tmp_path: Path) -> None:
    index = MemoryIndex()
    hashes = []
    for run in range(3):
        store = memory_store(tmp_path, index, egroup_bytes=MiB)
        hashes += [store.put_chunk(noise(run * 100 + i)) for i in range(20)]
        store.flush()
        store.close()
    store = memory_store(tmp_path, index)
    assert [store.read_chunk(h) for h in hashes] == [noise(run * 100 + i) for run in range(3) for i in range(20)]
    assert len(store.files.numbers()) > 3
    assert all(store.files.file(n).size() <= MiB for n in store.files.numbers())


@pytest.mark.parametrize("data", [noise(7, 8192), texture(7, 8192)], ids=["raw", "compressed"])
def test_it_finds_a_flipped_bit_anywhere_in_an_extent(tmp_path: Path, data: bytes) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    digest = store.put_chunk(data)
    store.flush()
    location = index.get(digest)
    assert location is not None
    path = tmp_path / path_of(location.egroup)
    good = path.read_bytes()
    for at in range(location.offset, location.offset + extent_bytes(location.stored_bytes), 7):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        reader = ExtentStore(OsDisk(tmp_path), index, writable=False)
        with pytest.raises(DamagedData):
            reader.read_chunk(digest)
        with pytest.raises(DamagedExtent):
            reader.raw(digest)
        reader.files.close()


def test_it_serves_the_good_blocks_of_a_damaged_raw_chunk(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    digest = store.put_chunk(noise(1))
    store.flush()
    flip(tmp_path, index, digest, 5 * 4096)
    assert store.read_blocks(digest, 4, 1) == noise(1)[4 * 4096 : 5 * 4096]
    with pytest.raises(DamagedData):
        store.read_blocks(digest, 5, 1)
    with pytest.raises(DamagedData):
        store.verify(digest)


def test_it_finds_what_was_damaged_after_the_chunk_was_read(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    digest = store.put_chunk(noise(1))
    store.flush()
    for offset in (0, 4095, 4096, 7 * 4096 + 9, 65535):
        assert store.read_blocks(digest, 0, 16) == noise(1)  # checked block by block
        assert store.read_blocks(digest, 0, 16) == noise(1)  # and as one
        flip(tmp_path, index, digest, offset)
        with pytest.raises(DamagedData):
            store.read_blocks(digest, 0, 16)
        flip(tmp_path, index, digest, offset)


def flip(root: Path, index: MemoryIndex, digest: bytes, payload_offset: int) -> None:
    location = index.get(digest)
    assert location is not None
    path = root / path_of(location.egroup)
    data = bytearray(path.read_bytes())
    data[location.offset + 52 + -(-location.stored_bytes // 4096) * 4 + payload_offset] ^= 1
    path.write_bytes(data)


def test_it_is_healed_by_a_verified_copy(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    digest = store.put_chunk(noise(1))
    store.flush()
    flip(tmp_path, index, digest, 0)
    with pytest.raises(DamagedData):
        store.read_chunk(digest)
    store.put_verified(Kind.CHUNK, digest, Codec.RAW, noise(1), 65536, repair=True)
    store.flush()
    assert store.read_chunk(digest) == noise(1)


def test_it_says_rebuild_when_the_index_points_elsewhere(tmp_path: Path) -> None:
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    first, second = (store.put_chunk(noise(n)) for n in (1, 2))
    store.flush()
    other = index.get(second)
    assert other is not None
    index.commit(Change(puts=[(first, other)]))
    for read in (store.read_chunk, store.raw):
        with pytest.raises(MissingExtent):
            read(first)
    store.rebuild()
    assert store.read_chunk(first) == noise(1)
    assert store.raw(first) == store.raw(first) == (Codec.RAW, noise(1), 65536)


def test_it_takes_from_a_peer_only_what_has_its_hash(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    data = texture(1)
    for codec, payload in (
        (Codec.LZ4, lz4.block.compress(data, store_size=False)),
        (Codec.ZSTD, zstandard.compress(data)),
        (Codec.RAW, data),
    ):
        with pytest.raises(PeerProtocol):
            store.put_verified(Kind.CHUNK, chunk_hash(noise(1)), codec, payload, len(data))
        with pytest.raises(PeerProtocol):
            store.put_verified(Kind.CHUNK, chunk_hash(data), codec, payload[:-1], len(data))
    store.put_verified(Kind.CHUNK, chunk_hash(data), Codec.ZSTD, zstandard.compress(data), len(data))
    store.flush()
    assert store.read_chunk(chunk_hash(data)) == data
    assert store.raw(chunk_hash(data)) == (Codec.ZSTD, zstandard.compress(data), len(data))


def test_it_refuses_bombs_and_lies_about_sizes(tmp_path: Path) -> None:
    store = memory_store(tmp_path)
    bomb = zstandard.compress(b"x" * (256 * MiB))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * MiB)
    small = zstandard.compress(texture(1))
    cases = [
        (Kind.CHUNK, Codec.ZSTD, bomb, 256 * MiB),
        (Kind.CHUNK, Codec.ZSTD, bomb, 65536),
        (Kind.CHUNK, Codec.ZSTD, unsized, MiB),
        (Kind.CHUNK, Codec.ZSTD, small + small, 65536),
        (Kind.CHUNK, Codec.LZ4, lz4.block.compress(b"x" * MiB, store_size=False), 4096),
        (Kind.CHUNK, Codec.RAW, noise(1), 4096),
        (Kind.CHUNK, Codec.RAW, bytes(4096), 4096),
        (Kind.CHUNK, 9, noise(1), 65536),
        (9, Codec.RAW, noise(1), 65536),
        (Kind.LEAF, Codec.RAW, noise(1, 4096), 4096),
        (Kind.ROOT, Codec.RAW, noise(1, 56), 56),
        (Kind.INNER, Codec.RAW, noise(1, 8) + bytes(CHUNK_BYTES_MAX - 8), CHUNK_BYTES_MAX),
    ]
    for kind, codec, payload, size in cases:
        digest = chunk_hash(payload) if kind == Kind.CHUNK else node_hash(payload)
        with pytest.raises(PeerProtocol):
            store.put_verified(kind, digest, codec, payload, size)
    store.flush()
    assert store.stats().extents == 0


def test_it_tries_a_full_disk_again_without_losing_a_chunk(tmp_path: Path) -> None:
    disk = FaultyDisk(tmp_path)
    store = ExtentStore(disk, MemoryIndex(), writable=True)
    hashes = [store.put_chunk(noise(i)) for i in range(10)]
    disk.writes_left = 0
    for _ in range(2):
        with pytest.raises(NoSpace):
            store.flush()
    assert store.has(hashes) == [False] * 10
    disk.writes_left = None
    store.flush()
    assert [store.read_chunk(h) for h in hashes] == [noise(i) for i in range(10)]


def test_it_freezes_when_an_fsync_fails_and_never_shows_those_chunks(tmp_path: Path) -> None:
    disk, index = FaultyDisk(tmp_path), MemoryIndex()
    store = ExtentStore(disk, index, writable=True)
    kept = store.put_chunk(noise(1))
    store.flush()
    lost = store.put_chunk(noise(2))
    disk.syncs_left = 0
    with pytest.raises(StoreFrozen):
        store.flush()
    disk.syncs_left = None
    with pytest.raises(StoreFrozen):
        store.flush()
    with pytest.raises(StoreFrozen):
        store.put_chunk(noise(3))
    assert index.get(lost) is None
    store.close()
    again = ExtentStore(disk, index, writable=True)
    again.rebuild()
    assert again.has([kept, lost]) == [True, False]
    assert again.read_chunk(kept) == noise(1)


def test_it_syncs_the_data_before_the_index(tmp_path: Path) -> None:
    disk = FaultyDisk(tmp_path)

    class Watching(MemoryIndex):
        def commit(self, change: Change) -> None:
            disk.log.append("index")
            super().commit(change)

    store = ExtentStore(disk, Watching(), writable=True)
    store.put_chunk(noise(1))
    disk.log.clear()
    store.flush()
    assert disk.log == ["write", "sync", "index"]


def test_its_lmdb_index_survives_a_restart(tmp_path: Path) -> None:
    store = ExtentStore(OsDisk(tmp_path), LmdbIndex(tmp_path / "index"), writable=True)
    hashes = [store.put_chunk(noise(i, 4096)) for i in range(3000)]
    store.flush()
    store.close()
    again = ExtentStore(OsDisk(tmp_path), LmdbIndex(tmp_path / "index"), writable=True)
    assert again.has(hashes) == [True] * 3000
    assert again.read_chunk(hashes[77]) == noise(77, 4096)
    assert [d for d, _ in again.index.items()] == sorted(hashes)
    again.close()


def test_it_does_not_believe_a_chunk_that_holds_an_extent(tmp_path: Path) -> None:
    """A guest writes bytes that look like an extent; a scan behind a damaged header must not take them for one."""
    index = MemoryIndex()
    store = memory_store(tmp_path, index)
    inner = store.put_chunk(noise(1, 4096))
    store.flush()
    location = index.get(inner)
    assert location is not None
    copied = (tmp_path / path_of(1)).read_bytes()[location.offset :]
    forged = b"".join(bytes(gap) + copied for gap in range(0, 64, 4))
    outer = store.put_chunk(forged + bytes(-len(forged) % 4096))
    flip_at = struct.calcsize("<4sBB")
    store.flush()
    place = index.get(outer)
    assert place is not None
    path = tmp_path / path_of(1)
    data = bytearray(path.read_bytes())
    data[place.offset + flip_at] ^= 1
    data[location.offset + flip_at] ^= 1
    path.write_bytes(data)
    store.rebuild()
    assert store.stats().extents == 0


def test_it_keeps_the_children_of_a_node_that_is_put_while_a_sweep_deletes(tmp_path: Path) -> None:
    """Nobody put these chunks or asked for them since the sweep began: the node alone protects them."""
    store = memory_store(tmp_path)
    chunks = [store.put_chunk(noise(seed, CHUNK)) for seed in range(4)]
    store.flush()
    epoch = store.sweep_begin()
    leaf = store.put_node(Kind.LEAF, pack_node(0, 4, b"".join(chunks)))
    store.sweep_delete([], epoch)
    store.flush()
    store.sweep_delete([], epoch)
    assert store.has([*chunks, leaf]) == [True] * 5
    assert [store.read_chunk(digest) for digest in chunks] == [noise(seed, CHUNK) for seed in range(4)]
