# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peer.sites import Site, lmdb_site, make_site, pair


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture(params=["memory", "lmdb"])
def sites(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Site, Site]]:
    """A source and a target, paired; once with the index in memory, once in LMDB."""
    make = make_site if request.param == "memory" else lmdb_site
    a, b = make(tmp_path / "a"), make(tmp_path / "b")
    pair(a, b)
    yield a, b
    a.close()
    b.close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Site, Site]]:
    """As `sites`, in memory only."""
    a, b = make_site(tmp_path / "a"), make_site(tmp_path / "b")
    pair(a, b)
    yield a, b
    a.close()
    b.close()
