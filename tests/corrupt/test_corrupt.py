# SPDX-License-Identifier: Apache-2.0
"""A small run of `make corrupt`, and that it would notice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stargate.extents.reader import ExtentReader
from stargate.hot.regions import HotReader
from stargate.scrub import checks, offline
from tests.corrupt.__main__ import summary
from tests.corrupt.case import Outcome, run


def test_it_finds_heals_or_refuses_all_damage() -> None:
    outcomes = [run(seed) for seed in range(26, 52)]
    broken = [f"{o.story}: {o.error}; replay: python -m tests.corrupt --cases 1 --seed {o.seed}" for o in outcomes]
    assert [text for o, text in zip(outcomes, broken, strict=True) if o.error] == []
    assert sum(o.live for o in outcomes) > 10
    assert sum(o.healed for o in outcomes) > 5
    assert sum(not o.live for o in outcomes) > 3


def test_it_is_the_same_case_again() -> None:
    again = replace(run(7), story="")
    assert replace(run(7), story="") == again
    assert run(7).story == run(7).story


def unchecked(reader: HotReader, position: int, length: int, crcs: Any) -> bytes:
    region, offset = divmod(position, 64 << 20)
    return reader._file(region).pread(length, offset)


def test_it_notices_reads_without_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HotReader, "read", unchecked)
    assert any("WRONG BYTES" in o.error or "not found" in o.error for o in map(run, range(40)))


def test_it_notices_a_scrub_that_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "egroup", lambda *args: {})
    monkeypatch.setattr(ExtentReader, "confirm", lambda *args: None)
    monkeypatch.setattr(offline, "check", lambda *args: iter(()))
    assert any("not found" in o.error for o in map(run, range(40)))


def test_its_last_line_counts() -> None:
    outcomes = [Outcome(1, live=True, healable=True, healed=True), Outcome(2, live=True), Outcome(3)]
    assert summary(outcomes) == (
        "corrupt: 3 cases: 2 live damage, 100 % found, 1 of 1 healable healed, 1 unhealable answered EIO "
        "(0 by a refused start), 1 dead, 0 wrong bytes"
    )
