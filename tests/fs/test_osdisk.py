# SPDX-License-Identifier: Apache-2.0
"""`OsFile.pwritev` writes whole whatever the kernel takes at a time."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from stargate.fs.disk import OsDisk


def test_it_writes_whole_over_short_writes_and_long_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)

    def short(fd: int, buffers: list[bytes], offset: int) -> int:
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
