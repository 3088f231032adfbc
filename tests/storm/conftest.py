# SPDX-License-Identifier: Apache-2.0
"""A short folder for the sockets of a real engine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sto-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
