# SPDX-License-Identifier: Apache-2.0
"""Chunks and stores for the tests of the extent store."""

from __future__ import annotations

import random
from pathlib import Path

from stargate.extents.index import MemoryIndex
from stargate.extents.store import ExtentStore
from stargate.fs.disk import OsDisk
from stargate.units import MiB

CHUNK = 4096


def memory_store(path: Path, index: MemoryIndex | None = None, *, egroup_bytes: int = MiB) -> ExtentStore:
    """A writing store over real files with small egroups."""
    return ExtentStore(OsDisk(path), index or MemoryIndex(), writable=True, egroup_bytes=egroup_bytes)


def noise(seed: int, length: int = 65536) -> bytes:
    """Bytes that do not compress; the same for the same seed."""
    return random.Random(seed).randbytes(length)


def texture(seed: int, length: int = 65536) -> bytes:
    """Bytes that compress well."""
    return (b"row %08d " % seed * (length // 13 + 1))[:length]
