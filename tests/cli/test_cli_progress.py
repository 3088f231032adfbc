# SPDX-License-Identifier: Apache-2.0
"""The line of progress: what the server measured, and nothing that it did not."""

from __future__ import annotations

from typing import Any

import pytest

from prism.cli.waiting import progress

RUNNING = {
    "kind": "replicate", "object_name": "gold 3 to south", "state": "running", "phase": "sync", "percent": 15,
    "done_bytes": 3 << 30, "total_bytes": 20 << 30, "rate": None, "seconds_left": None, "time_left": "measuring…",
    "stalled": False, "stalled_since": None, "waits_for": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "end"),
    [
        ({}, "15 % of 20.0 GiB"),
        ({"rate": 45 << 20, "seconds_left": 400, "time_left": "about 7 min"}, "45.0 MiB/s · about 7 min left"),
        ({"rate": 0}, "15 % of 20.0 GiB"),
        ({"total_bytes": None, "percent": None}, "sync · 3.0 GiB"),
        (
            {"stalled": True, "stalled_since": "2026-11-23T12:00:00Z", "waits_for": "the link to south"},
            "stalled since 2026-11-23T12:00:00Z · waits for the link to south",
        ),
    ],
)
def test_it_says_how_far_how_fast_and_what_it_waits_for(change: dict[str, Any], end: str) -> None:
    assert progress({**RUNNING, **change}).endswith(end)
