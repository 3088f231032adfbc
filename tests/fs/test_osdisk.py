# SPDX-License-Identifier: Apache-2.0
"""`OsFile.pwritev` writes whole whatever the kernel takes at a time."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest

from stargate.fs.disk import OsDisk


def test_it_writes_whole_over_short_writes_and_long_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)

    def short(fd: int, buffers: list[bytes], offset: int, flags: int) -> int:
        """As a kernel that takes a part: what it did not report is not there."""
        data = b"".join(buffers)
        taken = rng.randrange(1, len(data) + 1) if data else 0
        return os.pwrite(fd, data[:taken], offset)

    monkeypatch.setattr(os, "pwritev", short)
    file = OsDisk(tmp_path).open("f", create=True)
    for _ in range(60):
        sizes = rng.choices([0, 1, 5, 4096, 70_000], k=rng.choice([1, 3, 50, 1500]))
        buffers = [rng.randbytes(size) for size in sizes]
        file.truncate(0)
        assert file.pwritev(buffers, 100) == sum(sizes)
        assert file.pread(sum(sizes), 100) == b"".join(buffers)
    file.close()


@pytest.mark.parametrize("folder", ["", "/dev/shm"], ids=["disk", "memory"])
def test_it_holds_what_passed_through_the_cache_also_where_nothing_can(tmp_path: Path, folder: str) -> None:
    """Files in memory refuse the wish (EOPNOTSUPP), as older kernels do."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=folder or tmp_path) as place:
        file = OsDisk(place).open("f", create=True)
        file.pass_through()
        whole = b""
        for _ in range(30):
            parts = [rng.randbytes(size) for size in rng.choices([1, 124, 4096, 65536], k=rng.choice([1, 40]))]
            assert file.pwritev(parts, len(whole)) == sum(map(len, parts))
            whole += b"".join(parts)
            if rng.random() < 0.3:
                file.fdatasync()
        assert file.pread(len(whole) + 1, 0) == whole
        file.close()


def test_a_folder_is_durable_when_mkdir_returns_with_all_that_was_made_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an fsync of the folder above, a power cut may take a new folder with all the synced files in it."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    disk = OsDisk(tmp_path / "new" / "site")
    disk.mkdir("a/b")
    above = [tmp_path, tmp_path / "new", tmp_path / "new/site", tmp_path / "new/site/a"]
    assert {folder.stat().st_ino for folder in above} <= set(synced)

    synced.clear()
    disk.mkdir("a")  # a process that was killed between the two calls may have made it
    assert synced == [disk.root.stat().st_ino]


def test_what_was_warmed_is_read_without_the_device(tmp_path: Path) -> None:
    size = 3 * 1024 * 1024 + 77
    file = OsDisk(tmp_path).open("f", create=True)
    data = os.urandom(size)
    file.pwritev([data], 0)
    file.fdatasync()
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    file.warm(0, 2 * size)  # ends with the file
    found = bytearray(size)
    assert os.preadv(file.fileno(), [found], 0, os.RWF_NOWAIT) == size
    assert found == data
    file.close()
