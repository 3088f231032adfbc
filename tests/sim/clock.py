# SPDX-License-Identifier: Apache-2.0
"""Time that passes only where somebody sleeps or the world says so. The date may jump, durations only grow."""

from __future__ import annotations


class VirtualClock:
    """`Clock` of a simulation."""

    def __init__(self) -> None:
        self._elapsed = 1_000.0
        self._offset = 1_700_000_000.0

    def monotonic(self) -> float:
        return self._elapsed

    def now(self) -> float:
        return self._elapsed + self._offset

    def sleep(self, seconds: float) -> None:
        self._elapsed += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the date."""
        self._offset += seconds
