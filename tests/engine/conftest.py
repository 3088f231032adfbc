# SPDX-License-Identifier: Apache-2.0
"""A real engine per test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_site import EngineSite


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, for unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="eng-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def site(folder: Path) -> Iterator[EngineSite]:
    """A running engine with a small log, so that tests meet segment rolls and back-pressure."""
    engine = EngineSite(folder)
    try:
        yield engine.start()
    finally:
        engine.stop()
