# SPDX-License-Identifier: Apache-2.0
"""The storage under the engine fills up: said early, said with its effect, and taken back by itself."""

from __future__ import annotations

from typing import Any

import pytest
from replication_kit import MemoryEngine

from prism.core.models import Alert
from replication.cerebro import engine_health, storage_health

pytestmark = pytest.mark.django_db


def open_kinds() -> set[str]:
    return set(Alert.objects.filter(resolved_at=None).values_list("kind", flat=True))


def test_it_warns_early_and_takes_it_back(local: Any, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    facts: dict[str, Any] = {"capacity_bytes": 100 << 30}
    monkeypatch.setattr(MemoryEngine, "do_usage", lambda self: facts)
    for level, free, kinds in (
        ("good", 50 << 30, set()),
        ("nearly_full", 9 << 30, {"storage_nearly_full"}),
        ("scarce", 4 << 30, {"storage_full"}),
        ("full", 0, {"storage_full"}),
        ("nearly_full", 7 << 30, {"storage_nearly_full"}),
        ("good", 60 << 30, set()),
    ):
        facts.update(level=level, free_bytes=free)
        assert storage_health.look() == level
        assert open_kinds() == kinds
    assert Alert.objects.count() == 3
    alert = Alert.objects.filter(kind="storage_full").get()
    assert alert.title == "Storage Is Full"
    assert alert.message.startswith("0.00 GiB (0.0 %) of this site's storage are free: new snapshots")
    assert "guests get" in alert.message
    assert "Delete snapshots" in alert.next_step


def test_a_full_disk_is_not_called_an_ill_engine(local: Any, engine: MemoryEngine) -> None:
    engine.facts = {"last_error": "the storage is full"}
    assert "keeps failing" in engine_health.problem()
    engine.facts["space"] = "full"
    assert engine_health.problem() == ""


def test_it_says_when_nothing_is_swept(local: Any, engine: MemoryEngine) -> None:
    engine.facts = {"sweep_error": "extent 00 is needed but not in the index"}
    assert engine_health.problem().startswith("The space of deleted snapshots does not come back: extent 00")
