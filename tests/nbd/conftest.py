# SPDX-License-Identifier: Apache-2.0
"""A running server with one disk of 64 MiB called `disk`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nbd_kit import MemoryExport, Running, running

from stargate.units import MiB


@pytest.fixture
def disk() -> MemoryExport:
    return MemoryExport("disk", 64 * MiB)


@pytest.fixture
def served(disk: MemoryExport, tmp_path: Path) -> Iterator[Running]:
    with running(str(tmp_path / "nbd.sock"), disk) as server:
        yield server
