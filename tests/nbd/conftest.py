# SPDX-License-Identifier: Apache-2.0
"""A running server with one disk of 64 MiB called `disk`; `secured` takes TLS only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nbd_kit import MemoryExport, Running, running, until
from tls_kit import Site, connect

from stargate.units import MiB


@pytest.fixture
def disk() -> MemoryExport:
    return MemoryExport("disk", 64 * MiB)


@pytest.fixture
def served(disk: MemoryExport, tmp_path: Path) -> Iterator[Running]:
    with running(str(tmp_path / "nbd.sock"), disk) as server:
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def secured(site: Site, disk: MemoryExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """After each test a client with a certificate is served, and nobody else is left."""
    monkeypatch.setattr("stargate.nbd.listen.is_routable", lambda host: True)
    honest = site.client("honest")
    with running(str(tmp_path / "nbd.sock"), disk, tls=site.policy) as served:
        yield served
        with connect(served, honest) as client:
            client.write(0, b"honest")
            assert client.read(0, 6) == b"honest"
        until(lambda: not served.exports.open_now)
