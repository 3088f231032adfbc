# SPDX-License-Identifier: Apache-2.0
"""Damage that nothing could heal is said, with its effect, and taken back when it is gone."""

from __future__ import annotations

from typing import Any

import pytest
from replication_kit import MemoryEngine

from prism.core.models import Alert
from replication.cerebro import data_health

pytestmark = pytest.mark.django_db


def test_it_tells_of_damage_and_takes_it_back(
    local: Any, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    scrub: dict[str, Any] = {"damaged": 0, "findings": [], "unfoldable": []}
    monkeypatch.setattr(MemoryEngine, "do_usage", lambda self: {"scrub": scrub})
    assert data_health.look() == 0
    assert not Alert.objects.exists()
    scrub.update(damaged=2, findings=["A block of the log is damaged: it rots."], unfoldable=["an epoch"])
    assert data_health.look() == 2
    alert = Alert.objects.get(kind="damaged_data", resolved_at=None)
    assert alert.title == "Damaged Data Found"
    assert alert.message.startswith("2 parts of the stored data are damaged")
    assert "1 versions of disks cannot be replicated" in alert.message
    assert "it rots" in alert.message
    assert "medium" in alert.next_step
    scrub.update(damaged=0, findings=[], unfoldable=[])
    assert data_health.look() == 0
    assert not Alert.objects.filter(resolved_at=None).exists()


def test_an_engine_that_says_nothing_raises_nothing(local: Any, engine: MemoryEngine) -> None:
    assert data_health.look() == 0
