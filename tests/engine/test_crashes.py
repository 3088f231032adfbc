# SPDX-License-Identifier: Apache-2.0
"""Random histories of the whole engine with power cuts and killed processes (LAW 4), each from a printed seed.

`STARGATE_SEEDS=2000` runs more of them, `STARGATE_SEED=n` one again.
"""

from __future__ import annotations

import os
import random

import pytest

from stargate.errors import StargateError
from stargate.front import link
from tests.engine.history import History

SEEDS = int(os.environ.get("STARGATE_SEEDS", "60"))
STEPS = 120


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "SLICE_ENTRIES", 3)


def _seeds() -> list[int]:
    if "STARGATE_SEED" in os.environ:
        return [int(os.environ["STARGATE_SEED"])]
    return random.sample(range(1 << 32), SEEDS)


def test_every_history_keeps_what_it_must() -> None:
    for seed in _seeds():
        try:
            History(seed).run(STEPS)
        except (AssertionError, StargateError, OSError, LookupError, ValueError) as exc:
            raise AssertionError(f"seed {seed}: {exc!r}") from exc
