# SPDX-License-Identifier: Apache-2.0
"""What every `BlockBackend` must do. A test class per backend inherits it and gives `make`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from stargate.backend.base import BlockBackend, ChunkChange, VersionId
from stargate.errors import AlreadyExists, InvalidArgument, NotFound, StaleToken

CHUNK = 16384
COUNT = 40
SIZE = COUNT * CHUNK


def noise(seed: int, length: int = CHUNK) -> bytes:
    return random.Random(seed).randbytes(length)


def content(backend: BlockBackend, version: VersionId) -> bytes:
    size = -(-backend.info(version).size_bytes // 4096) * 4096
    return backend.read(version, [(0, size)])[0] if size else b""


def overlaid(base: bytes, changes: list[ChunkChange]) -> bytes:
    data = bytearray(base)
    for change in changes:
        place = slice(change.chunk * CHUNK, (change.chunk + 1) * CHUNK)
        data[place] = bytes(CHUNK) if change.data is None else bytes(change.data)
    return bytes(data)


class BackendContract:
    """`make` opens a backend over a folder, `shut` releases it so that it can be made again."""

    def make(self, folder: Path) -> BlockBackend:
        raise NotImplementedError

    def shut(self, backend: BlockBackend) -> None:
        backend.close()

    @pytest.fixture
    def backend(self, tmp_path: Path) -> BlockBackend:
        backend = self.make(tmp_path)
        backend.open(1)
        return backend

    def some(self, backend: BlockBackend, seed: int = 1, base: VersionId | None = None) -> VersionId:
        chance = random.Random(seed)
        changes = [ChunkChange(i, noise(seed * 1000 + i)) for i in sorted(chance.sample(range(COUNT), 8))]
        return backend.apply(base, SIZE, CHUNK, changes, seed)

    def test_it_reads_zeros_where_nothing_was_written(self, backend: BlockBackend) -> None:
        version = backend.apply(None, SIZE, CHUNK, [], 0)
        assert content(backend, version) == bytes(SIZE)
        assert backend.info(version) == (SIZE, CHUNK)

    def test_it_applies_changes_over_a_base_and_leaves_the_base(self, backend: BlockBackend) -> None:
        seed = random.randrange(2**32)
        print("seed", seed)
        chance = random.Random(seed)
        version, plain, history = None, bytes(SIZE), []
        for step in range(8):
            picked = sorted(chance.sample(range(COUNT), 6))
            changes = [ChunkChange(i, noise(chance.randrange(99)) if chance.random() < 0.8 else None) for i in picked]
            first = chance.randrange(COUNT)
            zeros = [(first, chance.randrange(1, COUNT - first + 1))] if step % 2 else []
            for start, count in zeros:
                plain = plain[: start * CHUNK] + bytes(count * CHUNK) + plain[(start + count) * CHUNK :]
            plain = overlaid(plain, changes)
            version = backend.apply(version, SIZE, CHUNK, changes, step, zero_ranges=zeros)
            history.append((version, plain))
        for made, expected in history:
            assert content(backend, made) == expected

    def test_it_reads_many_ranges_at_once(self, backend: BlockBackend) -> None:
        version = self.some(backend)
        whole = content(backend, version)
        ranges = [(0, 4096), (CHUNK - 4096, 8192), (3 * CHUNK + 4096, 5 * CHUNK), (SIZE - 4096, 4096)]
        assert backend.read(version, ranges) == [whole[offset : offset + length] for offset, length in ranges]

    @pytest.mark.parametrize("bad", [(1, 4096), (0, 100), (0, 0), (-4096, 4096), (SIZE, 4096), (0, SIZE + 4096)])
    def test_it_refuses_ranges_outside_or_unaligned(self, backend: BlockBackend, bad: tuple[int, int]) -> None:
        version = self.some(backend)
        with pytest.raises(InvalidArgument):
            backend.read(version, [bad])

    def test_it_gives_the_same_version_for_the_same_apply(self, backend: BlockBackend) -> None:
        first = self.some(backend, 1)
        assert self.some(backend, 1) == first
        backend.commit()
        assert self.some(backend, 1) == first
        assert self.some(backend, 2) != first

    def test_it_refuses_changes_that_do_not_fit(self, backend: BlockBackend) -> None:
        for changes in (
            [ChunkChange(0, b"short")],
            [ChunkChange(COUNT, noise(1))],
            [ChunkChange(2, noise(1)), ChunkChange(1, noise(1))],
        ):
            with pytest.raises(InvalidArgument):
                backend.apply(None, SIZE, CHUNK, changes, 1)
        with pytest.raises(InvalidArgument):
            backend.apply(None, SIZE - 5000, CHUNK, [ChunkChange(COUNT - 1, noise(1))], 1)
        with pytest.raises(InvalidArgument):
            backend.apply(self.some(backend), SIZE, 2 * CHUNK, [], 2)

    def test_it_keeps_what_was_committed_over_a_restart(self, backend: BlockBackend, tmp_path: Path) -> None:
        version = self.some(backend, 7)
        assert backend.commit() == 7
        expected = content(backend, version)
        self.some(backend, 9)
        self.shut(backend)
        again = self.make(tmp_path)
        again.open(2)
        assert content(again, version) == expected
        assert again.commit() == 7

    def test_it_refuses_whoever_was_replaced(self, backend: BlockBackend, tmp_path: Path) -> None:
        version = self.some(backend)
        backend.commit()
        self.shut(backend)
        newer = self.make(tmp_path)
        newer.open(5)
        with pytest.raises(StaleToken):
            newer.open(4)
        with pytest.raises(StaleToken):
            backend.unpin(version, "old")

    def test_it_does_not_know_foreign_versions(self, backend: BlockBackend) -> None:
        for call in (backend.info, backend.clone, lambda v: backend.pin(v, "me"), lambda v: content(backend, v)):
            with pytest.raises(NotFound):
                call(bytes(range(32)))

    def test_it_clones_without_changing_anything(self, backend: BlockBackend) -> None:
        version = self.some(backend)
        clone = backend.clone(version)
        changed = backend.apply(clone, SIZE, CHUNK, [ChunkChange(0, noise(50))], 3)
        assert content(backend, version) == content(backend, clone) != content(backend, changed)

    @pytest.mark.parametrize("size", [SIZE + 5 * CHUNK, SIZE + 300, SIZE - CHUNK, SIZE - 5 * CHUNK - 100, 0, 512])
    def test_it_resizes_and_shows_zeros_when_it_grows_again(self, backend: BlockBackend, size: int) -> None:
        full = backend.apply(None, SIZE, CHUNK, [ChunkChange(i, noise(i)) for i in range(COUNT)], 1)
        plain = content(backend, full)
        resized = backend.resize(full, size, 2)
        padded = -(-size // 4096) * 4096
        expected = plain[: min(size, SIZE)].ljust(padded, b"\0")
        assert content(backend, resized) == expected
        assert backend.info(resized) == (size, CHUNK)
        assert content(backend, backend.resize(resized, SIZE, 3)) == expected[:SIZE].ljust(SIZE, b"\0")

    def test_it_zeroes_any_aligned_range(self, backend: BlockBackend) -> None:
        seed = random.randrange(2**32)
        print("seed", seed)
        chance = random.Random(seed)
        size = SIZE - 3000
        last = noise(COUNT - 1)[: CHUNK - 3000].ljust(CHUNK, b"\0")
        changes = [*(ChunkChange(i, noise(i)) for i in range(COUNT - 1)), ChunkChange(COUNT - 1, last)]
        full = backend.apply(None, size, CHUNK, changes, 1)
        whole = content(backend, full)
        blocks = len(whole) // 4096
        for _ in range(10):
            ranges, expected = [], bytearray(whole)
            for _ in range(chance.randrange(1, 4)):
                first = chance.randrange(blocks)
                count = chance.randrange(1, blocks - first + 1)
                ranges.append((first * 4096, count * 4096))
                expected[first * 4096 : (first + count) * 4096] = bytes(count * 4096)
            assert content(backend, backend.zero(full, ranges, 2)) == expected

    def test_its_changed_ranges_cover_every_difference(self, backend: BlockBackend) -> None:
        old = self.some(backend, 1)
        new = backend.resize(self.some(backend, 2, old), SIZE + 2 * CHUNK + 100, 3)
        for left, right in ((old, new), (new, old), (None, new), (old, old)):
            a = b"" if left is None else content(backend, left)
            b = content(backend, right)
            ranges = list(backend.changed_ranges(left, right))
            covered = {block for offset, length in ranges for block in range(offset // 4096, (offset + length) // 4096)}
            end = max(len(a), len(b))
            a, b = a.ljust(end, b"\0"), b.ljust(end, b"\0")
            differing = {
                n for n in range(end // 4096) if a[n * 4096 : n * 4096 + 4096] != b[n * 4096 : n * 4096 + 4096]
            }
            assert differing <= covered <= set(range(end // 4096))
            assert ranges == sorted(ranges)
            assert sum(length for _, length in ranges) == 4096 * len(covered)

    def test_it_keeps_a_group_as_one_point(self, backend: BlockBackend, tmp_path: Path) -> None:
        versions = [self.some(backend, seed) for seed in (1, 2, 3)]
        backend.group_snapshot("noon", versions, 42)
        backend.group_snapshot("noon", versions, 42)
        with pytest.raises(AlreadyExists):
            backend.group_snapshot("noon", versions[:1], 42)
        with pytest.raises(NotFound):
            backend.group_snapshot("half", [versions[0], bytes(range(32))], 43)
        with pytest.raises(NotFound):
            backend.group("half")
        expected = [content(backend, version) for version in versions]
        self.shut(backend)
        again = self.make(tmp_path)
        again.open(2)
        again.collect([])
        assert again.group("noon") == (42, versions)
        assert [content(again, version) for version in versions] == expected
        again.drop_group("noon")
        again.collect([])
        with pytest.raises(NotFound):
            again.info(versions[0])

    def test_it_stages_an_incoming_version_over_restarts(self, backend: BlockBackend, tmp_path: Path) -> None:
        base = self.some(backend)
        backend.pin(base, "test")
        plain = content(backend, base)
        backend.stage("in", base, SIZE, CHUNK)
        backend.stage_apply("in", [ChunkChange(1, noise(70))])
        self.shut(backend)
        again = self.make(tmp_path)
        again.open(2)
        again.stage("in", base, SIZE, CHUNK)
        again.collect([])
        again.stage_apply("in", [ChunkChange(3, noise(71))], zero_ranges=[(20, 10)])
        version = again.publish("in")
        assert again.publish("in") == version
        expected = overlaid(plain, [ChunkChange(i) for i in range(20, 30)])
        expected = overlaid(expected, [ChunkChange(1, noise(70)), ChunkChange(3, noise(71))])
        again.collect([])
        assert content(again, version) == expected
        assert content(again, base) == plain

    def test_it_forgets_an_aborted_version(self, backend: BlockBackend) -> None:
        backend.stage("in", None, SIZE, CHUNK)
        backend.stage_apply("in", [ChunkChange(1, noise(70))])
        backend.abort("in")
        for call in (lambda: backend.publish("in"), lambda: backend.stage_apply("in", [])):
            with pytest.raises(NotFound):
                call()

    def test_it_collects_what_nobody_keeps(self, backend: BlockBackend) -> None:
        live, pinned, dead = (self.some(backend, seed) for seed in (1, 2, 3))
        backend.pin(pinned, "reader")
        backend.commit()
        expected = content(backend, live), content(backend, pinned)
        used = backend.usage().stored_bytes
        backend.collect([live])
        assert (content(backend, live), content(backend, pinned)) == expected
        with pytest.raises(NotFound):
            content(backend, dead)
        assert backend.usage().stored_bytes < used
        backend.unpin(pinned, "reader")
        backend.collect([live])
        with pytest.raises(NotFound):
            content(backend, pinned)

    def test_it_takes_hashes_only_when_it_says_so(self, backend: BlockBackend) -> None:
        version = backend.apply(None, SIZE, CHUNK, [ChunkChange(0, noise(1))], 1)
        from stargate.extents.format import chunk_hash

        known = [ChunkChange(5, digest=chunk_hash(noise(1)))]
        if not backend.capabilities.content_addressed:
            with pytest.raises(InvalidArgument):
                backend.apply(version, SIZE, CHUNK, known, 2)
            return
        second = backend.apply(version, SIZE, CHUNK, known, 2)
        assert backend.read(second, [(5 * CHUNK, CHUNK)]) == [noise(1)]
        with pytest.raises(InvalidArgument):
            backend.apply(version, SIZE, CHUNK, [ChunkChange(5, digest=chunk_hash(noise(2)))], 2)

    def test_it_reports_itself_well(self, backend: BlockBackend) -> None:
        self.some(backend)
        backend.commit()
        assert backend.health().ok
        assert backend.usage().free_bytes > 0
