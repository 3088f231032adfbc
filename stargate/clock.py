# SPDX-License-Identifier: Apache-2.0
"""Time as the engine sees it, so that a simulator can own it (LAW 5)."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """`monotonic` is seconds for durations and leases; `now` is Unix seconds for people only."""

    def monotonic(self) -> float: ...

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
